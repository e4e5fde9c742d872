"""Reads Keras's .h5 and .keras files with h5py alone: no layer is built, so no code that they may name runs."""

import io
import os
import pathlib
import zipfile
from collections.abc import Iterator

import h5py
import numpy as np

from mobilenets_jax.weights.readers.contents import Contents
from mobilenets_jax.weights.readers.errors import UnreadableFileError

WEIGHTS_MEMBER = 'model.weights.h5'  # of a .keras archive
MAX_WEIGHTS_BYTES = 1 << 30  # far above any mobile network; what an archive says beyond it is a bomb

# The order in which Keras 3 numbers the variables of a layer, by their count.
_VARIABLES = {
    1: ('kernel',),
    2: ('kernel', 'bias'),
    4: ('gamma', 'beta', 'moving_mean', 'moving_variance'),
}


def read(path: pathlib.Path) -> Contents:
    """The weights by 'layer/variable', in one spelling for all versions of Keras, e.g. 'conv_dw_1_bn/gamma'."""
    source = _archived(path) if zipfile.is_zipfile(path) else path
    with h5py.File(source, 'r') as file:
        root = file.get('model_weights', file)
        items = _legacy(root) if 'layer_names' in root.attrs else _numbered(root)
        return Contents({_spelling(layer, variable): array for layer, variable, array in items})


def _archived(path: pathlib.Path) -> io.BytesIO:
    with zipfile.ZipFile(path) as archive:
        if WEIGHTS_MEMBER not in archive.namelist():
            raise UnreadableFileError(f'there is no {WEIGHTS_MEMBER} in it')
        if archive.getinfo(WEIGHTS_MEMBER).file_size > MAX_WEIGHTS_BYTES:
            raise UnreadableFileError(f'its {WEIGHTS_MEMBER} has more than {MAX_WEIGHTS_BYTES} bytes')
        return io.BytesIO(archive.read(WEIGHTS_MEMBER))


def _legacy(root: h5py.Group) -> Iterator[tuple[str, str, np.ndarray]]:
    """The layers of an .h5 file: a group each, which lists the paths of its weights."""
    for layer in map(os.fsdecode, root.attrs['layer_names']):
        group = _local(root, layer)
        for name in map(os.fsdecode, group.attrs['weight_names']):
            yield layer, name.rpartition('/')[2], _array(group, name)


def _numbered(root: h5py.Group) -> Iterator[tuple[str, str, np.ndarray]]:
    """The layers of a .keras or .weights.h5 file: 'layers/CLASS_N/vars/0', ..., with the layer's name as attribute."""
    layers = _local(root, 'layers')
    for group in (_local(layers, key) for key in layers):
        variables = _local(group, 'vars') if 'vars' in group else {}
        if not len(variables):
            continue
        if len(variables) not in _VARIABLES or 'name' not in variables.attrs:
            raise UnreadableFileError(f'{group.name} has variables without known names')
        for number, name in enumerate(_VARIABLES[len(variables)]):
            yield os.fsdecode(variables.attrs['name']), name, _array(variables, str(number))


def _local(group: h5py.Group, path: str) -> h5py.Group:
    """What `path` names inside of this very file: HDF5 links can lead to any file of the machine."""
    for part in filter(None, path.split('/')):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise UnreadableFileError(f'{path} is missing or leads out of the file')
        group = group[part]
    return group


def _array(group: h5py.Group, path: str) -> np.ndarray:
    dataset = _local(group, path)
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise UnreadableFileError(f'{path} is no array of its own')
    if dataset.nbytes > MAX_WEIGHTS_BYTES:
        raise UnreadableFileError(f'{path} has more than {MAX_WEIGHTS_BYTES} bytes')
    return dataset[()]


def _spelling(layer: str, variable: str) -> str:
    """E.g. 'expanded_conv/depthwise/BatchNorm' of Keras 2 and 'expanded_conv_depthwise_bn' of Keras 3 are one layer."""
    layer = layer.lower().replace('/', '_').replace('batchnorm', 'bn')
    return f'{layer}/{variable.partition(":")[0].removeprefix("depthwise_")}'
