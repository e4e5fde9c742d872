"""The image files of a class's folder and of the folders in it, kept in an index: a million files take long to list.

The index is a hidden file in the folder of the split. On a local disk it holds for a class as long as none of the
class's folders has changed, see `index_file`. A bucket (gs://) does not say when a folder changed, but gives thousands
of names at a time: there all classes are listed at every start, side by side, and no index is kept.

A file is taken for an image by its suffix, in capitals or not; all others are counted. Hidden ones are no part of it.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from etils import epath

from mobilenets_jax.buckets import is_bucket, list_entries
from mobilenets_jax.data.image_files import SUFFIXES
from mobilenets_jax.data.index_file import read_index, stamp, status, write_index
from mobilenets_jax.errors import UserError

INDEX_FILE = '.mobilenets_jax_index.json'
FORMAT_VERSION = 2
# Folders of a bucket that are listed in parallel; each call takes a fifth of a second, mostly waiting.
BUCKET_LISTERS = 32

NO_SUFFIX = 'without a suffix'
LISTED_BEFORE = 'links to folders that were listed already'


@dataclasses.dataclass(frozen=True)
class Listing:
    """The content of the folder of a class.

    Attributes:
        files: the images, as paths from that folder on, sorted.
        left_out: how many files are no images, by suffix.
        folders: the folders in it, '' for itself, and a value that shows whether they have changed; {} in a bucket.

    Raises:
        TypeError: a value is of another type, as in an index that something else wrote.
    """

    files: list[str]
    left_out: dict[str, int]
    folders: dict[str, list[int]]

    def __post_init__(self):
        for value, type_, inner in (
            (self.files, list, str),
            (list(self.left_out), list, str),
            (list(self.left_out.values()), list, int),
            (list(self.folders.values()), list, list),
        ):
            if not isinstance(value, type_) or not all(isinstance(entry, inner) for entry in value):
                raise TypeError('this is no listing')


def join(directory: str, name: str) -> str:
    """`directory`/`name`, of a local disk or a bucket."""
    return f'{directory.rstrip("/")}/{name}' if name else directory


def list_folders(directory: str) -> list[str]:
    """The sorted names of the folders in `directory`, hidden ones apart."""
    return list_folders_and_images(directory)[0]


def list_folders_and_images(directory: str) -> tuple[list[str], list[str]]:
    """The sorted names of the folders and of the images in `directory`, hidden ones apart."""
    entries = _entries(directory)
    folders = [name for name, is_folder in entries if is_folder]
    return folders, [name for name, is_folder in entries if not is_folder and _is_image(name)]


def list_files(directory: str, folders: Sequence[str]) -> dict[str, Listing]:
    """Folder to its content, for each of `folders`, which are in `directory`.

    Raises:
        UserError: a folder cannot be listed or has no images.
    """
    if is_bucket(directory):
        with ThreadPoolExecutor(BUCKET_LISTERS) as listers:
            return dict(
                zip(folders, listers.map(list_images, [join(directory, name) for name in folders]), strict=True)
            )
    index_path = epath.Path(directory) / INDEX_FILE
    known = read_index(
        index_path, FORMAT_VERSION, 'classes', lambda fields: Listing(**fields), 'the files are listed again'
    )
    valid = {name for name in folders if name in known and _holds(join(directory, name), known[name])}
    listings = {name: known[name] if name in valid else list_images(join(directory, name)) for name in folders}
    index = {name: listing for name, listing in listings.items() if all(listing.folders.values())}
    if index != known:
        classes = {name: dataclasses.asdict(listing) for name, listing in index.items()}
        write_index(index_path, FORMAT_VERSION, 'classes', classes, 'the files are listed at every start')
    return listings


def describe(left_out: Counter[str]) -> str:
    """How many files were left out, by suffix, the commonest first: '7 .txt, 2 without a suffix'."""
    shown = left_out.most_common(5)
    others = left_out.total() - sum(count for _, count in shown)
    return ', '.join([f'{count} {suffix}' for suffix, count in shown] + ([f'{others} others'] if others else []))


def list_images(folder: str, field: str = 'data.dir') -> Listing:
    """The content of a folder, at any depth; no folder is visited twice, even through links.

    Args:
        folder: such as that of a class; local or gs://.
        field: what messages call the field or flag that names it.

    Raises:
        UserError: it cannot be listed or has no images.
    """
    files, left_out, folders = [], Counter(), {}
    outside = folder if is_bucket(folder) else os.path.dirname(os.path.abspath(folder))
    seen, waiting = {_identity(outside)}, ['']
    while waiting:
        inner = waiting.pop()
        path = join(folder, inner)
        identity = _identity(path)
        if identity and identity in seen:
            left_out[LISTED_BEFORE] += 1
            continue
        seen.add(identity)
        if not is_bucket(path):
            folders[inner] = stamp(path)
        for name, is_folder in _entries(path, field):
            if is_folder:
                waiting.append(join(inner, name) if inner else name)
            elif _is_image(name):
                files.append(join(inner, name) if inner else name)
            else:
                left_out[os.path.splitext(name)[1].lower() or NO_SUFFIX] += 1
    if not files:
        others = f'; it has {describe(left_out)}' if left_out else ''
        raise UserError(f'{field}: {folder} has no images ({", ".join(SUFFIXES)}){others}.')
    return Listing(sorted(files), dict(left_out), folders)


def _entries(directory: str, field: str = 'data.dir') -> list[tuple[str, bool]]:
    """The sorted names in `directory`, hidden ones apart, and whether they are folders."""
    try:
        if is_bucket(directory):
            found = list_entries(epath.Path(directory))
        else:
            with os.scandir(directory) as entries:
                found = [
                    (entry.name, os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()) for entry in entries
                ]
    except OSError as error:
        raise UserError(f'{field}: cannot list {directory}: {error.strerror or error}.') from error
    return sorted((name, is_folder) for name, is_folder in found if not name.startswith('.'))


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _identity(directory: str) -> tuple[int, int] | None:
    """The same for all names of a local folder; None in a bucket, which has no links."""
    if is_bucket(directory):
        return None
    found = status(directory or '.')
    return found.st_dev, found.st_ino


def _holds(folder: str, listing: Listing) -> bool:
    """Whether the index's entry of `folder` is still true."""
    try:
        stamps = listing.folders.items()
        return '' in listing.folders and all(stamp(join(folder, inner)) == known for inner, known in stamps)
    except UserError:  # One of them is gone.
        return False
