"""Reads .safetensors: eight bytes of length, a JSON header of that length, then the tensors' bytes."""

import json
import math
import pathlib

import ml_dtypes
import numpy as np

from mobilenets_jax.weights.readers.contents import Contents
from mobilenets_jax.weights.readers.errors import MAX_TEXT_BYTES, UnreadableFileError, check_bytes

DTYPES = {
    'F64': np.dtype('<f8'),
    'F32': np.dtype('<f4'),
    'F16': np.dtype('<f2'),
    'BF16': np.dtype(ml_dtypes.bfloat16),
    'I64': np.dtype('<i8'),
    'I32': np.dtype('<i4'),
    'U8': np.dtype('u1'),
    'I8': np.dtype('i1'),
    'BOOL': np.dtype('?'),
}


def read(path: pathlib.Path) -> Contents:
    """The tensors of the file by name; raises `UnreadableFileError` if it contradicts its header."""
    with path.open('rb') as file:
        length = int.from_bytes(file.read(8), 'little')
        if not 0 < length <= path.stat().st_size - 8:
            raise UnreadableFileError('the header is longer than the file')
        check_bytes('its header has', length, MAX_TEXT_BYTES)
        header = json.loads(file.read(length))
        header.pop('__metadata__', None)
        claimed = [_claimed(name, entry) for name, entry in header.items()]
        check_bytes('its tensors have', sum(claimed))
        data = memoryview(file.read())
    return Contents({name: _tensor(name, entry, data) for name, entry in header.items()})


def _claimed(name: str, entry: dict) -> int:
    """How many bytes a tensor has by its shape."""
    if entry['dtype'] not in DTYPES:
        raise UnreadableFileError(f'{name} has the unknown type {entry["dtype"]}')
    return math.prod(entry['shape']) * DTYPES[entry['dtype']].itemsize


def _tensor(name: str, entry: dict, data: memoryview) -> np.ndarray:
    dtype, shape = DTYPES[entry['dtype']], entry['shape']
    start, stop = entry['data_offsets']
    if not 0 <= start <= stop <= len(data) or stop - start != _claimed(name, entry):
        raise UnreadableFileError(f'{name} is outside of the file or has the wrong size')
    return np.frombuffer(data[start:stop], dtype).reshape(shape)
