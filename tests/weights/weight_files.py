"""Writes weight files in every format without the framework the format is from."""

import json
import pickle
import struct
import sys
import types
import zipfile

import h5py
import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def write_safetensors(path, arrays):
    header, content = {'__metadata__': {'format': 'pt'}}, b''
    for name, array in arrays.items():
        data = array.tobytes()
        header[name] = {
            'dtype': {'float32': 'F32', 'int64': 'I64'}[array.dtype.name],
            'shape': list(array.shape),
            'data_offsets': [len(content), len(content) + len(data)],
        }
        content += data
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(encoded)) + encoded + content)


class _Storage:
    def __init__(self, key, array):
        self.key, self.array = key, array


class _Tensor:
    def __init__(self, key, array):
        self.storage, self.array = _Storage(key, array), array

    def __reduce__(self):
        strides = tuple(stride // self.array.itemsize for stride in self.array.strides)
        arguments = (self.storage, 0, self.array.shape, strides, False, {})
        return sys.modules['torch._utils']._rebuild_tensor_v2, arguments


class _Pickler(pickle._Pickler):
    def persistent_id(self, item):
        if isinstance(item, _Storage):
            return 'storage', sys.modules['torch'].FloatStorage, item.key, 'cpu', item.array.size
        return None


def _pickled(stream, value):
    """Pickles as PyTorch does: tensors and storages by the names that they have there."""
    torch, utils = types.ModuleType('torch'), types.ModuleType('torch._utils')

    def _rebuild_tensor_v2(*_): ...

    for module, item in ((torch, type('FloatStorage', (), {})), (utils, _rebuild_tensor_v2)):
        item.__module__, item.__qualname__ = module.__name__, item.__name__
        setattr(module, item.__name__, item)
    sys.modules['torch'], sys.modules['torch._utils'] = torch, utils
    try:
        _Pickler(stream, protocol=2).dump(value)
    finally:
        del sys.modules['torch'], sys.modules['torch._utils']


def write_pth(path, arrays, wrap=lambda tensors: tensors):
    """The format since PyTorch 1.6."""
    tensors = {name: _Tensor(str(number), array) for number, (name, array) in enumerate(arrays.items())}
    with zipfile.ZipFile(path, 'w') as archive:
        with archive.open('archive/data.pkl', 'w') as stream:
            _pickled(stream, wrap(tensors))
        for tensor in tensors.values():
            archive.writestr(f'archive/data/{tensor.storage.key}', tensor.array.tobytes())


def write_legacy_pth(path, arrays):
    """The format before PyTorch 1.6."""
    tensors = {name: _Tensor(str(number), array) for number, (name, array) in enumerate(arrays.items())}
    with path.open('wb') as stream:
        for value in (LEGACY_MAGIC, 1001, {'little_endian': True}, tensors):
            _pickled(stream, value)
        _pickled(stream, [tensor.storage.key for tensor in tensors.values()])
        for tensor in tensors.values():
            stream.write(struct.pack('<q', tensor.array.size) + tensor.array.tobytes())


def write_h5(path, arrays, root='model_weights'):
    """As Keras 2 wrote: a group for each layer, which lists its weights."""
    layers = {}
    for name, array in arrays.items():
        layers.setdefault(name.rpartition('/')[0], {})[f'{name}:0'] = array
    with h5py.File(path, 'w') as file:
        group = file.create_group(root) if root else file
        group.attrs['layer_names'] = np.array([layer.encode() for layer in layers])
        for layer, weights in layers.items():
            inner = group.create_group(layer)
            inner.attrs['weight_names'] = np.array([name.encode() for name in weights])
            for name, array in weights.items():
                inner[name] = array
