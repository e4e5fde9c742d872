"""Opens a weight file of any known format by looking at its first bytes; nothing in a file is ever executed."""

import dataclasses
import fnmatch
import importlib
import pathlib
import shutil
import struct
import tarfile
import tempfile
import zipfile

import numpy as np

from mobilenets_jax.errors import UserError
from mobilenets_jax.weights.readers.contents import Contents
from mobilenets_jax.weights.readers.errors import UnreadableFileError

# Format -> its reader's module, and the layout of `layouts.LAYOUTS` that its arrays have.
READERS = {
    'pytorch': ('pytorch', 'pytorch'),
    'safetensors': ('safetensors', 'pytorch'),
    'keras': ('keras', 'keras'),
    'tensorflow': ('tensorflow', 'slim'),
    'tflite': ('tflite', 'tflite'),
}
MAX_MEMBER_BYTES = 1 << 30  # of an archive; far above any mobile network
LISTED = 5  # files of an archive, in an error

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
        contents: the weights, and what the file says about their network.
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
        if path.is_file() and tarfile.is_tarfile(path):
            with tempfile.TemporaryDirectory() as folder:
                return read(extract(path, member, pathlib.Path(folder)))
        kind = _format(path)
        module, layout = READERS[kind]
        contents = importlib.import_module(f'{__package__}.readers.{module}').read(path)
        if kind == 'tensorflow' and any('layer_with_weights-' in name for name in contents.arrays):
            layout = 'model_garden'
        return WeightFile(layout, contents)
    except ModuleNotFoundError as error:
        raise UserError(f'weights={str(path)!r} needs the Python package {error.name}, which is missing.') from error
    except UserError:
        raise
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f'weights={str(path)!r} cannot be read: its archive is cut short or damaged.') from error
    except _FAULTS as error:
        cause = ' '.join(str(error).split()) or type(error).__name__
        raise UserError(f'weights={str(path)!r} cannot be read: {cause}.') from error


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
    if start[:2] == b'\x1f\x8b':
        raise UnreadableFileError('it is compressed by gzip and no tar archive, or a damaged one; unpack it first')
    known = '.pth, .pt, .safetensors, .h5, .keras, .tflite, TensorFlow checkpoints, and tar archives of these'
    raise UserError(f'weights={str(path)!r} is of no known format. Known: {known}.')


def _format_of_zip(path: pathlib.Path) -> str:
    try:
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


def extract(archive_path: pathlib.Path, member: str | None, folder: pathlib.Path) -> pathlib.Path:
    """Copies the weights of a tar archive into `folder`, and returns the path to `read`.

    Raises:
        UserError: the archive holds a path outside of itself or a link, or not one file that fits `member`.
    """
    with tarfile.open(archive_path) as archive:
        members = archive.getmembers()
        for info in members:
            parts = pathlib.PurePosixPath(info.name).parts
            if info.name.startswith('/') or '..' in parts or not (info.isfile() or info.isdir()):
                raise UserError(f'weights={str(archive_path)!r} holds {info.name!r}, which leads out of the archive.')
        chosen = [info for info in members if info.isfile() and _fits(info.name, member)]
        starts = {info.name.removesuffix('.index').partition('.data-')[0] for info in chosen}
        if len(starts) != 1:
            found = sorted(info.name for info in chosen or members if info.isfile())
            listed = ', '.join(found[:LISTED]) + (f' and {len(found) - LISTED} more' if len(found) > LISTED else '')
            raise UserError(
                f'weights={str(archive_path)!r} is a tar archive that does not hold one set of weights. '
                f'It holds: {listed or "nothing"}.'
            )
        for info in chosen:
            if info.size > MAX_MEMBER_BYTES:
                raise UnreadableFileError(f'{info.name} has more than {MAX_MEMBER_BYTES} bytes')
            with archive.extractfile(info) as source, (folder / pathlib.PurePosixPath(info.name).name).open('wb') as to:
                shutil.copyfileobj(source, to)
    return folder / pathlib.PurePosixPath(starts.pop()).name


_WEIGHT_PATTERNS = ('*.tflite', '*.pth', '*.pt', '*.safetensors', '*.bin', '*.h5', '*.keras', '*.index', '*.data-*')


def _fits(name: str, member: str | None) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in ([member] if member else _WEIGHT_PATTERNS))
