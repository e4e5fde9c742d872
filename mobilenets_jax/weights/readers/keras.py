"""Reads Keras's .h5 and .keras files with h5py alone: no layer is built, so no code that they may name runs."""

import contextlib
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from mobilenets_jax.weights.readers.contents import Contents
from mobilenets_jax.weights.readers.errors import MAX_WEIGHTS_BYTES, UnreadableFileError
from mobilenets_jax.weights.readers.keras_config import Stated, read_statements
from mobilenets_jax.weights.readers.keras_graph import is_model, numbered_names, read_graph

WEIGHTS_MEMBER = 'model.weights.h5'  # of a .keras archive
CONFIG_MEMBER = 'config.json'
MAX_CONFIG_BYTES = 1 << 24

# The order in which Keras numbers the variables of a layer, by their count.
_VARIABLES = {
    1: ('kernel',),
    2: ('kernel', 'bias'),
    3: ('mean', 'variance', 'count'),  # of a Normalization layer
    4: ('gamma', 'beta', 'moving_mean', 'moving_variance'),
}
_NO_LAYERS = ('vars', 'optimizer', 'metrics', 'loss_tracker', 'compile_metrics', 'seed_generator')

Item = tuple[str, str, np.ndarray]  # layer, variable, array


def read(path: pathlib.Path) -> Contents:
    """The weights by 'layer/variable', in one spelling for all versions of Keras, e.g. 'conv_dw_1_bn/gamma'.

    Where the file holds its model's config, too, the contents say what that states of the input and the classifier.
    """
    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            source = io.BytesIO(_member(archive, WEIGHTS_MEMBER, MAX_WEIGHTS_BYTES))
            config = _member(archive, CONFIG_MEMBER, MAX_CONFIG_BYTES) if CONFIG_MEMBER in archive.namelist() else None
            file = stack.enter_context(h5py.File(source, 'r'))
        else:
            file = stack.enter_context(h5py.File(path, 'r'))
            config = file.attrs.get('model_config')
        model = json.loads(config) if config is not None else None
        return _contents(file, model if is_model(model) else None)


def _contents(file: h5py.File, model: dict[str, Any] | None) -> Contents:
    root = file.get('model_weights', file)
    graph = read_graph(model) if model else None
    if 'layer_names' in root.attrs:
        items = _legacy(root, {node.name for node in graph.nodes.values()} if graph else set())
    else:
        items = _numbered(root, '', numbered_names(model) if model else {})
    arrays: dict[str, np.ndarray] = {}
    for layer, variable, array in items:
        key = f'{layer}/{variable}'
        if key in arrays:
            raise UnreadableFileError(f'it has two layers {layer}')
        arrays[key] = array
        if sum(array.nbytes for array in arrays.values()) > MAX_WEIGHTS_BYTES:
            raise UnreadableFileError(f'its weights have more than {MAX_WEIGHTS_BYTES} bytes')
    if graph is None:
        return Contents({_spelling(key): array for key, array in arrays.items()})
    return _with_statements(arrays, read_statements(graph, arrays))


def _with_statements(arrays: dict[str, np.ndarray], stated: Stated) -> Contents:
    kept = {key: array for key, array in arrays.items() if key.rpartition('/')[0] not in stated.consumed}
    return Contents(
        {_spelling(key): array for key, array in kept.items()},
        image_size=stated.image_size,
        value_range=stated.value_range,
        classifier=tuple(_layer_spelling(layer) for layer in stated.classifier),
        classifier_fault=stated.classifier_fault,
        backbone_fault=stated.backbone_fault,
        rectifier=stated.rectifier,
        notes=stated.notes,
    )


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    if name not in archive.namelist():
        raise UnreadableFileError(f'there is no {name} in it')
    if archive.getinfo(name).file_size > limit:
        raise UnreadableFileError(f'its {name} has more than {limit} bytes')
    return archive.read(name)


def _legacy(root: h5py.Group, known: set[str]) -> Iterator[Item]:
    """The layers of an .h5 file: a group each, which lists the paths of its weights; of a model, those of its layers.

    Args:
        root: holds the groups.
        known: the names of all layers, by the model's config, if there is one.
    """
    for layer in map(os.fsdecode, root.attrs['layer_names']):
        group = _local(root, layer)
        names = [os.fsdecode(name) for name in group.attrs['weight_names']]
        paths = {name.rpartition('/')[0] for name in names}
        for name in names:
            path, _, variable = name.rpartition('/')
            is_layer = layer in known or (not known and len(paths) == 1)
            yield layer if is_layer else _inner_layer(path, known), variable.partition(':')[0], _array(group, name)


def _inner_layer(path: str, known: set[str]) -> str:
    """The layer of a nested model whose weights stand at `path`; scopes may stand before its name."""
    found = [layer for layer in known if path == layer or path.endswith(f'/{layer}')]
    return max(found, key=len, default=path)


def _numbered(group: h5py.Group, path: str, names: dict[str, str]) -> Iterator[Item]:
    """The layers of a .keras or .weights.h5 file: 'layers/CLASS_N/vars/0', ..., models in models.

    A layer's name is an attribute of its variables, or since which place it has is known from the model's config.
    """
    variables = _local(group, 'vars') if 'vars' in group else {}
    if path and len(variables):
        name = variables.attrs.get('name') or names.get(path.rstrip('/'))
        if name is None:
            raise UnreadableFileError(
                'it does not name its layers (weights alone of Keras 2.12 to 2.15): save the model'
            )
        if len(variables) not in _VARIABLES:
            raise UnreadableFileError(f'{group.name} has variables without known names')
        for number, variable in enumerate(_VARIABLES[len(variables)]):
            yield os.fsdecode(name), variable, _array(variables, str(number))
    if 'layers' in group:
        inner = _local(group, 'layers')
        for key in inner:
            yield from _numbered(_local(inner, key), f'{path}layers/{key}/', names)
    elif not path:  # a model of one's own class: its attributes
        for key in group:
            if key not in _NO_LAYERS:
                yield from _numbered(_local(group, key), f'{key}/', names)


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


def _spelling(key: str) -> str:
    layer, _, variable = key.rpartition('/')
    return f'{_layer_spelling(layer)}/{variable.removeprefix("depthwise_")}'


def _layer_spelling(layer: str) -> str:
    """E.g. 'expanded_conv/depthwise/BatchNorm' of Keras 2 and 'expanded_conv_depthwise_bn' of Keras 3 are one layer."""
    return layer.lower().replace('/', '_').replace('batchnorm', 'bn')
