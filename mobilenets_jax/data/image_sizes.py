"""The sizes of image files, read from their heads and kept in an index: see `index_file`."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from etils import epath

from mobilenets_jax.buckets import is_bucket
from mobilenets_jax.data import image_files
from mobilenets_jax.data.image_files import ImageError
from mobilenets_jax.data.index_file import read_index, stamp, write_index
from mobilenets_jax.errors import UserError

INDEX_FILE = '.mobilenets_jax_sizes.json'
FORMAT_VERSION = 1
READERS = 8  # files that are read side by side

# Height, width, whether it has an EXIF orientation, which is not applied, and the file's stamp.
Entry = tuple[int, int, bool, list[int]]


def read_sizes(directory: str, paths: Sequence[str]) -> list[tuple[int, int]]:
    """Height and width of each image under `directory`, which has the index; in pixels.

    Raises:
        UserError: a file cannot be read, or is no image.
    """
    path, local = epath.Path(directory) / INDEX_FILE, not is_bucket(directory)
    known = read_index(path, FORMAT_VERSION, 'sizes', _parsed, 'the images are read again') if local else {}
    names = [os.path.relpath(file, directory) if local else file for file in paths]

    def read_one(name: str, file: str) -> Entry:
        found, now = known.get(name), stamp(file) if local else []
        return found if found and now and found[3] == now else _read(file, now)

    with ThreadPoolExecutor(READERS) as readers:
        entries = list(readers.map(read_one, names, paths))
    index = known | {name: entry for name, entry in zip(names, entries, strict=True) if entry[3]}
    if local and index != known:
        write_index(path, FORMAT_VERSION, 'sizes', index, 'the images are read at every start')
    image_files.report_orientations(sum(turned for _, _, turned, _ in entries))
    return [(height, width) for height, width, _, _ in entries]


def _parsed(fields: Sequence) -> Entry:
    """An entry from JSON; raises `ValueError` or `TypeError` if it is not valid."""
    height, width, turned, stamps = fields
    return int(height), int(width), bool(turned), list(stamps)


def _read(file: str, stamps: list[int]) -> Entry:
    try:
        encoded = epath.Path(file).read_bytes()
        image = image_files.open_image(encoded)
    except ImageError as error:
        raise UserError(f'{file} is no image: {error}') from error
    except OSError as error:
        raise UserError(f'{file} cannot be read: {error.strerror or error}.') from error
    return image.height, image.width, image_files.has_orientation(encoded), stamps
