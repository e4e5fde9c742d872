"""Reads the tensors of .pth, .pt, .ckpt and .pth.tar files without PyTorch and without unpickling.

PyTorch writes a pickle program and the tensors' bytes beside it. `pickles` interprets the program: of the functions
that it names, only those of `_CALLS` are known, which build dictionaries and tensors; nothing else is imported or run.

Reference: torch/serialization.py of PyTorch 2.13 (`_save`, `_legacy_save`), torch/_utils.py (`_rebuild_tensor_v2`).
"""

import io
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from mobilenets_jax.weights.readers import state_dicts
from mobilenets_jax.weights.readers.contents import Contents
from mobilenets_jax.weights.readers.errors import UnreadableFileError, check_bytes
from mobilenets_jax.weights.readers.pickles import MAX_PROGRAM_BYTES, Inert, Interpreter, Name
from mobilenets_jax.weights.readers.tensors import Storage, Tensor

# The first object of a file in the format before PyTorch 1.6, and the second, its version.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
MAX_BYTE_ORDER_BYTES = 16
MAX_LISTED = 5  # names in a note

STORAGES = {
    'DoubleStorage': np.dtype('<f8'),
    'FloatStorage': np.dtype('<f4'),
    'HalfStorage': np.dtype('<f2'),
    'BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
    'LongStorage': np.dtype('<i8'),
    'IntStorage': np.dtype('<i4'),
    'ShortStorage': np.dtype('<i2'),
    'CharStorage': np.dtype('i1'),
    'ByteStorage': np.dtype('u1'),
    'BoolStorage': np.dtype('?'),
}


def read(path: pathlib.Path) -> Contents:
    """The tensors of the file's network by name.

    Raises:
        UnreadableFileError: there are no tensors, calls that are not known would make them, or the file is cut short.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            document, interpreter = _read_zip(archive, path.stat().st_size)
            return _contents(document, interpreter, path.stat().st_size)
    return _contents(*_read_legacy(path.read_bytes()), path.stat().st_size)


def _contents(document: Any, interpreter: Interpreter, file_bytes: int) -> Contents:
    chosen = state_dicts.choose(document)
    if any(tensor.nbytes > file_bytes for tensor in chosen.tensors.values()):  # nothing is compressed
        raise UnreadableFileError('a tensor reaches beyond its storage')
    check_bytes('its tensors have', sum(tensor.nbytes for tensor in chosen.tensors.values()))
    arrays = {name: tensor.array() for name, tensor in chosen.tensors.items()}
    notes = chosen.notes
    if interpreter.inert and not chosen.module:
        names = list(interpreter.inert)
        more = f' and {len(names) - MAX_LISTED} more' if len(names) > MAX_LISTED else ''
        listed = ', '.join(names[:MAX_LISTED]) + more
        kinds = 'kind of object' if len(names) == 1 else 'kinds of objects'
        notes += (f'{len(names)} {kinds} beside the weights left out, nothing of them was run: {listed}.',)
    return Contents(arrays, notes=notes, timm=chosen.timm)


def _read_zip(archive: zipfile.ZipFile, file_bytes: int) -> tuple[Any, Interpreter]:
    """The format since PyTorch 1.6: ARCHIVE/data.pkl and the storages ARCHIVE/data/KEY, all stored uncompressed."""
    names = archive.namelist()
    programs = [name for name in names if name.endswith('/data.pkl')]
    if len(programs) != 1:
        raise UnreadableFileError(f'it holds {len(programs)} files data.pkl where PyTorch writes one')
    root = programs[0].removesuffix('data.pkl')
    if any(name.startswith((f'{root}code/', f'{root}constants.pkl')) for name in names):
        raise UnreadableFileError('it is a TorchScript program (torch.jit.save); save model.state_dict() instead')

    def member(name: str, limit: int | None = None) -> bytes:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:  # PyTorch never compresses; a bomb would have to
            raise UnreadableFileError(f'{name} is compressed, which PyTorch does not do')
        check_bytes(f'{name} has', info.file_size, limit)
        if max(info.file_size, info.compress_size) > file_bytes:
            raise UnreadableFileError(f'{name} reaches beyond the end of the file')
        return archive.read(info)

    loaded: dict[str, bytes] = {}

    def load(storage: Storage) -> bytes:
        if storage.key not in loaded:  # many tensors may look at one storage
            name = f'{root}data/{storage.key}'
            check_bytes('its storages have', sum(map(len, loaded.values())) + archive.getinfo(name).file_size)
            loaded[storage.key] = member(name)
        return loaded[storage.key]

    if f'{root}byteorder' in names and member(f'{root}byteorder', MAX_BYTE_ORDER_BYTES) == b'big':
        raise UnreadableFileError('it was written by a big-endian machine')
    interpreter = Interpreter(_CALLS, _Storages(load))
    return interpreter.run(io.BytesIO(member(programs[0], MAX_PROGRAM_BYTES))), interpreter


def _read_legacy(content: bytes) -> tuple[Any, Interpreter]:
    """The format before PyTorch 1.6: five pickle programs, then each storage's length and bytes."""
    stream = io.BytesIO(content)
    found: dict[str, bytes] = {}
    storages = _Storages(lambda storage: found[storage.key])
    interpreter = Interpreter(_CALLS, storages)
    if interpreter.run(stream) != LEGACY_MAGIC or interpreter.run(stream) != LEGACY_VERSION:
        calls = ''.join(f'; it would call {name}; only tensors are read' for name in list(interpreter.inert)[:1])
        raise UnreadableFileError(f'it is a pickle, but no file of PyTorch{calls}')
    system = interpreter.run(stream)
    if isinstance(system, dict) and system.get('little_endian') is False:
        raise UnreadableFileError('it was written by a big-endian machine')
    document = interpreter.run(stream)
    for key in interpreter.run(stream):
        length = int.from_bytes(stream.read(8), 'little')
        if key not in storages.known:
            raise UnreadableFileError(f'its storage {key!r} is of an unknown type')
        found[key] = stream.read(length * storages.known[key].dtype.itemsize)
    return document, interpreter


class _Storages:
    """From the persistent ids of a file to its storages."""

    def __init__(self, load: Callable[[Storage], bytes]):
        self._load = load
        self.known: dict[str, Storage] = {}

    def __call__(self, reference: Any) -> Storage | Inert:
        """The storage that a persistent id ('storage', type, key, device, length[, view]) names."""
        if not isinstance(reference, tuple) or len(reference) < 3 or reference[0] != 'storage':
            raise UnreadableFileError('it refers to something that is no storage')
        _, storage_type, key = reference[:3]
        if not isinstance(storage_type, Name) or not isinstance(key, str):
            raise UnreadableFileError('it refers to something that is no storage')
        dtype = STORAGES.get(storage_type.name.removeprefix('torch.'))
        if dtype is None:
            return Inert(storage_type.name)
        storage = self.known.setdefault(key, Storage(key, dtype, self._load))
        if storage.dtype != dtype:
            raise UnreadableFileError(f'its storage {key!r} has two types')
        return storage


def _tensor(storage: Storage | Inert, offset: int, shape: tuple, strides: tuple, *_) -> Tensor | Inert:
    if not isinstance(storage, Storage):  # quantized, complex, or no storage at all
        return Inert(getattr(storage, 'name', 'an object of its own'))
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _subclassed(function: Name, _, arguments: tuple, *__) -> Tensor | Inert:
    """A tensor with attributes of its own, such as a timm parameter's `_no_weight_decay`."""
    known = isinstance(function, Name) and function.name.startswith('torch._utils._rebuild')
    return _CALLS[function.name](*arguments) if known and function.name in _CALLS else Inert(str(function))


def _same(tensor: Tensor, *_) -> Tensor:
    return tensor


# All that a file may call, by the name it has there.
_CALLS: dict[str, Callable[..., Any]] = {
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_parameter': _same,
    'torch._utils._rebuild_parameter_with_state': _same,
    'torch._tensor._rebuild_from_type_v2': _subclassed,
    'collections.OrderedDict': lambda items=(): dict(items),
    'collections.defaultdict': lambda *_: {},
    'torch.Size': tuple,
}
