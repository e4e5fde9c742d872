"""Reads the tensors of .pth, .pt and .pth.tar files without PyTorch and without unpickling.

PyTorch writes a pickle program and the tensors' bytes beside it. Python's unpickler runs whatever function such a
program names. Here the program is decoded (`pickletools.genops`, which executes nothing) and interpreted by the few
instructions that build dictionaries, lists and tensors; a function is a name that is looked up in `_CALLS`, and any
other name refuses the file.

Reference: torch/serialization.py of PyTorch 2.13 (`_save`, `_legacy_save`), torch/_utils.py (`_rebuild_tensor_v2`).
"""

import dataclasses
import io
import math
import pathlib
import pickletools
import zipfile
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from mobilenets_jax.weights.readers.contents import Contents
from mobilenets_jax.weights.readers.errors import UnreadableFileError

# The first object of a file in the format before PyTorch 1.6, and the second, its version.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
# Which part of a file holds the network, in the order of preference: plain state dicts have none of these keys.
STATE_DICT_KEYS = ('state_dict_ema', 'state_dict', 'model')
PREFIX = 'module.'  # of DataParallel

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
    """The tensors of the file's state dict by name.

    Raises:
        UnreadableFileError: the file asks for anything but tensors, or is cut short.
    """
    content = path.read_bytes()
    document = _read_zip(content) if content[:2] == b'PK' else _read_legacy(content)
    return Contents(_state_dict(document))


def _state_dict(document: Any) -> dict[str, np.ndarray]:
    """The named tensors of a state dict, or of the part of a training checkpoint that holds one."""
    for key in STATE_DICT_KEYS:
        if isinstance(document, dict) and isinstance(document.get(key), dict):
            document = document[key]
            break
    if not isinstance(document, dict) or not any(isinstance(value, _Tensor) for value in document.values()):
        raise UnreadableFileError('there is no state dict in it')
    tensors = {name: value for name, value in document.items() if isinstance(value, _Tensor)}
    return {name.removeprefix(PREFIX): tensor.array() for name, tensor in tensors.items()}


def _read_zip(content: bytes) -> Any:
    """The format since PyTorch 1.6: ARCHIVE/data.pkl and the storages ARCHIVE/data/KEY, all stored uncompressed."""
    archive = zipfile.ZipFile(io.BytesIO(content))
    programs = [name for name in archive.namelist() if name.endswith('/data.pkl')]
    if len(programs) != 1:
        raise UnreadableFileError('there is no data.pkl in it')
    root = programs[0].removesuffix('data.pkl')

    def member(name: str) -> bytes:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:  # PyTorch never compresses; a bomb would have to
            raise UnreadableFileError(f'{name} is compressed')
        return archive.read(info)

    def load(storage: '_Storage') -> bytes:
        return member(f'{root}data/{storage.key}')

    return _Interpreter(load).run(io.BytesIO(member(programs[0])))


def _read_legacy(content: bytes) -> Any:
    """The format before PyTorch 1.6: five pickle programs, then each storage's length and bytes."""
    stream = io.BytesIO(content)
    storages: dict[str, bytes] = {}

    def load(storage: '_Storage') -> bytes:
        return storages[storage.key]

    interpreter = _Interpreter(load)
    if interpreter.run(stream) != LEGACY_MAGIC or interpreter.run(stream) != LEGACY_VERSION:
        raise UnreadableFileError('it is no PyTorch file')
    interpreter.run(stream)  # the writer's byte order and type sizes
    document = interpreter.run(stream)
    for key in interpreter.run(stream):
        length = int.from_bytes(stream.read(8), 'little')
        storage = interpreter.storages[key]
        storages[key] = stream.read(length * storage.dtype.itemsize)
    return document


@dataclasses.dataclass(frozen=True)
class _Storage:
    """The flat bytes that one or more tensors look at."""

    key: str
    dtype: np.dtype
    load: Callable[['_Storage'], bytes]


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        flat = np.frombuffer(self.storage.load(self.storage), self.storage.dtype)
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        elements = math.prod(self.shape)
        if (
            min((self.offset, *self.shape, *self.strides)) < 0
            or elements > flat.size
            or (elements and last >= flat.size)
        ):
            raise UnreadableFileError('a tensor reaches beyond its storage')
        strides = [stride * flat.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides).copy()


def _rebuild_tensor(storage, offset, shape, strides, *_) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


# All that a file may call, by the name it has there.
_CALLS: dict[str, Callable[..., Any]] = {
    'torch._utils _rebuild_tensor_v2': _rebuild_tensor,
    'torch._utils _rebuild_parameter': lambda tensor, *_: tensor,
    'collections OrderedDict': lambda items=(): dict(items),
    'collections defaultdict': lambda *_: {},
    'torch Size': tuple,
}


@dataclasses.dataclass(frozen=True)
class _Name:
    """A function or class that the program names; it is never imported."""

    name: str


class _Interpreter:
    """Runs pickle programs that build plain values and tensors; one instance for all programs of a file."""

    _CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
    _CONTAINERS = {'EMPTY_DICT': dict, 'EMPTY_LIST': list, 'EMPTY_TUPLE': tuple, 'EMPTY_SET': set}
    _LITERALS = {
        *('BININT', 'BININT1', 'BININT2', 'LONG1', 'LONG4', 'INT', 'BINFLOAT', 'FLOAT'),
        *('BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'BINSTRING', 'SHORT_BINSTRING', 'BINBYTES'),
        'SHORT_BINBYTES',
    }
    _TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}

    def __init__(self, load: Callable[[_Storage], bytes]):
        self._load = load
        self.storages: dict[str, _Storage] = {}

    def run(self, stream: io.BytesIO) -> Any:
        """The value of the program that starts at the stream's position; leaves the stream behind it."""
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == 'STOP':
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise UnreadableFileError('its program has no end')

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in self._LITERALS:
            stack.append(argument)
        elif name in self._CONSTANTS:
            stack.append(self._CONSTANTS[name])
        elif name in self._CONTAINERS:
            stack.append(self._CONTAINERS[name]())
        elif name in self._TUPLES:
            count = self._TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name == 'GLOBAL':
            stack.append(_Name(argument))
        elif name == 'MARK':
            self._marks.append(len(stack))
        else:
            self._instruction(name)(argument)

    def _instruction(self, name: str) -> Callable[[Any], None]:
        instructions = {
            'TUPLE': lambda _: self._stack.append(tuple(self._pop_mark())),
            'APPEND': lambda _: self._extend([self._stack.pop()]),
            'APPENDS': lambda _: self._extend(self._pop_mark()),
            'SETITEM': lambda _: self._set_items([self._stack.pop(-2), self._stack.pop()]),
            'SETITEMS': lambda _: self._set_items(self._pop_mark()),
            'REDUCE': lambda _: self._call(),
            'BUILD': lambda _: self._stack.pop(),  # attributes, such as a state dict's _metadata
            'BINPERSID': lambda _: self._stack.append(self._storage(self._stack.pop())),
            'STACK_GLOBAL': lambda _: self._stack.append(_Name(f'{self._stack.pop(-2)} {self._stack.pop()}')),
            'POP': lambda _: self._stack.pop(),
            'MEMOIZE': lambda _: self._memo.__setitem__(len(self._memo), self._stack[-1]),
            'PROTO': lambda _: None,
            'FRAME': lambda _: None,
            **dict.fromkeys(('BINPUT', 'LONG_BINPUT', 'PUT'), lambda i: self._memo.__setitem__(i, self._stack[-1])),
            **dict.fromkeys(('BINGET', 'LONG_BINGET', 'GET'), lambda i: self._stack.append(self._memo[i])),
        }
        if name not in instructions:
            raise UnreadableFileError(f'it uses {name}, which no state dict needs')
        return instructions[name]

    def _pop_mark(self) -> list[Any]:
        start = self._marks.pop()
        items, self._stack[start:] = self._stack[start:], []
        return items

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise UnreadableFileError('it appends to what is no list')
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise UnreadableFileError('it sets items of what is no dictionary')
        target.update(zip(items[::2], items[1::2], strict=True))

    def _call(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Name) or function.name not in _CALLS:
            name = function.name.replace(' ', '.') if isinstance(function, _Name) else repr(function)
            raise UnreadableFileError(f'it would call {name}; only tensors are read')
        self._stack.append(_CALLS[function.name](*arguments))

    def _storage(self, reference: tuple) -> _Storage:
        """The storage that a persistent id ('storage', type, key, device, length[, view]) names."""
        kind, storage_type, key = reference[:3]
        dtype = STORAGES.get(storage_type.name.removeprefix('torch ')) if isinstance(storage_type, _Name) else None
        if kind != 'storage' or dtype is None or not isinstance(key, str):
            raise UnreadableFileError('it refers to something that is no storage')
        return self.storages.setdefault(key, _Storage(key, dtype, self._load))
