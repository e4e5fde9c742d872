"""The files of an image folder by class, kept in an index so that a million files are not listed at every start.

The index is a hidden file in the folder. On a local disk it holds for a class until its folder changes (its time of
modification); a bucket does not say when a folder changed, so there it holds until the index is removed.
"""

import json
import os
import sys
from collections.abc import Sequence

from etils import epath

from mobilenets_jax.config import write_text
from mobilenets_jax.errors import UserError

INDEX_FILE = '.mobilenets_jax_index.json'
SUFFIXES = ('.jpg', '.jpeg', '.png')


def join(directory: str, name: str) -> str:
    """`directory`/`name`, of a local disk or a bucket."""
    return f'{directory.rstrip("/")}/{name}'


def list_folders(directory: str) -> list[str]:
    """The sorted names of the folders in `directory`, hidden ones apart."""
    return sorted(path.name for path in _list(directory) if path.is_dir())


def list_files(directory: str, class_names: Sequence[str]) -> dict[str, list[str]]:
    """Class to the sorted names of its images, for those classes that have a folder in `directory`.

    Raises:
        UserError: a folder cannot be listed or has no images.
    """
    index_path = epath.Path(directory) / INDEX_FILE
    present = set(list_folders(directory))
    known = _read_index(index_path)
    index = {}
    for name in class_names:
        if name in present:
            folder = join(directory, name)
            changed = _changed(folder)
            is_known = name in known and known[name]['changed'] == changed
            index[name] = known[name] if is_known else {'changed': changed, 'files': _list_images(folder)}
    if index != known:
        _write_index(index_path, index)
    return {name: entry['files'] for name, entry in index.items()}


def _list_images(folder: str) -> list[str]:
    names = sorted(path.name for path in _list(folder) if path.name.lower().endswith(SUFFIXES))
    if not names:
        raise UserError(f'data.dir: {folder} has no images ({", ".join(SUFFIXES)}).')
    return names


def _list(directory: str) -> list[epath.Path]:
    try:
        return [path for path in epath.Path(directory).iterdir() if not path.name.startswith('.')]
    except OSError as error:
        raise UserError(f'data.dir: cannot list {directory}: {error.strerror}.') from error


def _changed(folder: str) -> int:
    """When `folder` was last changed, in nanoseconds; 0 in a bucket."""
    return 0 if '://' in folder else os.stat(folder).st_mtime_ns


def _read_index(path: epath.Path) -> dict[str, dict]:
    """The index at `path`, {} if there is none, or none that can be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def _write_index(path: epath.Path, index: dict[str, dict]) -> None:
    try:
        write_text(path, json.dumps(index))
    except OSError as error:  # a data set that only others may write to
        print(f'{path} cannot be written ({error.strerror}): the files are listed at every start', file=sys.stderr)
