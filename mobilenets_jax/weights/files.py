"""Opens a weight file of any known format by looking at its first bytes; nothing in a file is ever executed."""

import contextlib
import dataclasses
import importlib
import pathlib
import struct
import tarfile
import tempfile
import zipfile
import zlib

import numpy as np

from mobilenets_jax.errors import UserError, one_line
from mobilenets_jax.weights.archives import extract, open_archive
from mobilenets_jax.weights.readers.contents import Contents
from mobilenets_jax.weights.readers.errors import MAX_IMAGE_SIZE, MAX_TEXT_BYTES, UnreadableFileError, check_bytes

# Format -> its reader's module, and the layout of `layouts.LAYOUTS` that its arrays have.
READERS = {
    'pytorch': ('pytorch', 'pytorch'),
    'safetensors': ('safetensors', 'pytorch'),
    'keras': ('keras', 'keras'),
    'tensorflow': ('tensorflow', 'slim'),
    'tflite': ('tflite', 'tflite'),
}
_PACKED = {b'\x1f\x8b': 'gzip', b'BZh': 'bzip2', b'\xfd7zXZ': 'xz', b'\x28\xb5\x2f\xfd': 'zstd'}

# What a reader's parts raise on bytes that are not what they should be.
_FAULTS = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, OSError, MemoryError),
    *(RuntimeError, struct.error, zipfile.BadZipFile),
)


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """What is in a file.

    Attributes:
        layout: a key of `layouts.LAYOUTS`.
        contents: the weights, and the file's facts about their network.
    """

    layout: str
    contents: Contents

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The weights by the file's names."""
        return self.contents.arrays


def read(path: pathlib.Path, member: str | None = None) -> WeightFile:
    """Reads the arrays of a weight file.

    Args:
        path: a file; of a TensorFlow checkpoint its prefix or its .index file.
        member: which file of a tar archive holds the weights, as a shell pattern; None takes the only one there is.

    Raises:
        UserError: the file is missing, of no known format, damaged, or asks for more than arrays.
    """
    try:
        archive = open_archive(path) if path.is_file() else None
        if archive is None:
            return _read(path)
        with contextlib.closing(archive.fileobj), archive, tempfile.TemporaryDirectory() as folder:
            return _read(extract(archive, path, member, pathlib.Path(folder)))
    except ModuleNotFoundError as error:
        raise UserError(f'weights={str(path)!r} needs the Python package {error.name}, which is missing.') from error
    except UserError:
        raise
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f'weights={str(path)!r} cannot be read: its archive is cut short or damaged.') from error
    except _FAULTS as error:
        cause = one_line(error)
        raise UserError(f'weights={str(path)!r} cannot be read: {cause}.') from error


def _read(path: pathlib.Path) -> WeightFile:
    """Reads a file that is not an archive."""
    kind = _format(path)
    if path.is_file():
        check_bytes('it has', path.stat().st_size)
    module, layout = READERS[kind]
    contents = importlib.import_module(f'{__package__}.readers.{module}').read(path)
    if contents.image_size is not None and contents.image_size > MAX_IMAGE_SIZE:
        raise UnreadableFileError(f'it takes images of {contents.image_size} px; {MAX_IMAGE_SIZE} px are the most')
    if kind == 'tensorflow' and any('layer_with_weights-' in name for name in contents.arrays):
        layout = 'model_garden'
    return WeightFile(layout, contents)


def _format(path: pathlib.Path) -> str:
    """The key of `READERS` for the file, by its content."""
    if path.suffix == '.index' or pathlib.Path(f'{path}.index').is_file():
        return 'tensorflow'
    if not path.is_file():
        raise UserError(f'weights={str(path)!r}: there is no such file or checkpoint.')
    with path.open('rb') as file:
        start = file.read(16)
    if start[:4] == b'PK\x03\x04':
        return _format_of_zip(path)
    if start[:8] == b'\x89HDF\r\n\x1a\n':
        return 'keras'
    if start[4:8] == b'TFL3':
        return 'tflite'
    if start[8:9] == b'{':
        return 'safetensors'
    if start[:1] == b'\x80':
        return 'pytorch'
    packed = next((name for magic, name in _PACKED.items() if start.startswith(magic)), None)
    if packed is not None:
        raise UnreadableFileError(f'it is compressed by {packed} and no tar archive, or a damaged one; unpack it first')
    known = '.pth, .pt, .safetensors, .h5, .keras, .tflite, TensorFlow checkpoints, and tar archives of these'
    raise UserError(f'weights={str(path)!r} is of no known format. Known: {known}.')


def _format_of_zip(path: pathlib.Path) -> str:
    try:
        with path.open('rb') as file:
            end = zipfile._EndRecData(file)  # Python reads the list of files whole, and publishes no look at its size
        check_bytes('its list of files has', end[zipfile._ECD_SIZE] if end else 0, MAX_TEXT_BYTES)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise UnreadableFileError('it is a zip archive that was cut short or damaged') from error
    if any(name.endswith('/data.pkl') for name in names):
        return 'pytorch'
    if any(name.endswith('.weights.h5') for name in names):
        return 'keras'
    raise UnreadableFileError(
        'it is a zip archive with neither the data.pkl of PyTorch nor the model.weights.h5 of Keras, '
        f'but {len(names)} other files'
    )
