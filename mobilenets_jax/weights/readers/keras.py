"""Reads Keras's .h5 and .keras files with h5py alone: no layer is built, so no code that they may name runs."""

import contextlib
import io
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from mobilenets_jax.weights.readers.contents import Contents
from mobilenets_jax.weights.readers.errors import MAX_TEXT_BYTES, MAX_WEIGHTS_BYTES, UnreadableFileError, check_bytes
from mobilenets_jax.weights.readers.keras_config import Stated, read_statements
from mobilenets_jax.weights.readers.keras_graph import is_model, numbered_names, read_graph

WEIGHTS_MEMBER = 'model.weights.h5'  # of a .keras archive
CONFIG_MEMBER = 'config.json'

# The order in which Keras numbers the variables of a layer, by their count.
_VARIABLES = {
    1: ('kernel',),
    2: ('kernel', 'bias'),
    3: ('mean', 'variance', 'count'),  # of a Normalization layer
    4: ('gamma', 'beta', 'moving_mean', 'moving_variance'),
}
_NO_LAYERS = ('vars', 'optimizer', 'metrics', 'loss_tracker', 'compile_metrics', 'seed_generator')

Item = tuple[str, str, h5py.Dataset]  # layer, variable, and its array, not yet read


def read(path: pathlib.Path) -> Contents:
    """The weights by 'layer/variable', in one spelling for all versions of Keras, e.g. 'conv_dw_1_bn/gamma'.

    Where the file holds its model's config, too, the contents say what that states of the input and the classifier.
    """
    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            source = io.BytesIO(_member(archive, WEIGHTS_MEMBER, MAX_WEIGHTS_BYTES))
            config = _member(archive, CONFIG_MEMBER, MAX_TEXT_BYTES) if CONFIG_MEMBER in archive.namelist() else None
            file = stack.enter_context(h5py.File(source, 'r'))
        else:
            file = stack.enter_context(h5py.File(path, 'r'))
            config = _attribute(file, 'model_config')
            check_bytes("its model's config has", len(config or ''), MAX_TEXT_BYTES)
        model = json.loads(config) if config is not None else None
        return _contents(file, model if is_model(model) else None)


def _contents(file: h5py.File, model: dict[str, Any] | None) -> Contents:
    root = file.get('model_weights', file)
    graph = read_graph(model) if model else None
    if 'layer_names' in root.attrs:
        items = _legacy(root, {node.name for node in graph.nodes.values()} if graph else set())
    else:
        items = _numbered(root, '', numbered_names(model) if model else {}, set())
    datasets: dict[str, h5py.Dataset] = {}
    for layer, variable, dataset in items:
        key = f'{layer}/{variable}'
        if key in datasets:
            raise UnreadableFileError(f'it has two layers {layer}')
        datasets[key] = dataset
    check_bytes('its weights have', sum(dataset.nbytes for dataset in datasets.values()))
    arrays = {key: dataset[()] for key, dataset in datasets.items()}
    if graph is None:
        return Contents({_spelling(key): array for key, array in arrays.items()})
    return _with_statements(arrays, read_statements(graph, arrays))


def _with_statements(arrays: dict[str, np.ndarray], stated: Stated) -> Contents:
    kept = {key: array for key, array in arrays.items() if key.rpartition('/')[0] not in stated.consumed}
    return Contents(
        {_spelling(key): array for key, array in kept.items()},
        image_size=stated.image_size,
        normalization=stated.normalization,
        classifier=tuple(_layer_spelling(layer) for layer in stated.classifier),
        classifier_fault=stated.classifier_fault,
        backbone_fault=stated.backbone_fault,
        rectifier=stated.rectifier,
        notes=stated.notes,
    )


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    if name not in archive.namelist():
        raise UnreadableFileError(f'there is no {name} in it')
    check_bytes(f'its {name} has', archive.getinfo(name).file_size, limit)
    return archive.read(name)


def _legacy(root: h5py.Group, known: set[str]) -> Iterator[Item]:
    """The layers of an .h5 file: a group each, which lists the paths of its weights; of a model, those of its layers.

    Args:
        root: holds the groups.
        known: the names of all layers, by the model's config, if there is one.
    """
    for layer in map(os.fsdecode, _attribute(root, 'layer_names')):
        group = _local(root, layer)
        names = [os.fsdecode(name) for name in _attribute(group, 'weight_names')]
        paths = {name.rpartition('/')[0] for name in names}
        for name in names:
            path, _, variable = name.rpartition('/')
            is_layer = layer in known or (not known and len(paths) == 1)
            yield layer if is_layer else _inner_layer(path, known), variable.partition(':')[0], _dataset(group, name)


def _inner_layer(path: str, known: set[str]) -> str:
    """The layer of a nested model whose weights are at `path`; scopes may precede its name."""
    found = [layer for layer in known if path == layer or path.endswith(f'/{layer}')]
    return max(found, key=len, default=path)


def _numbered(group: h5py.Group, path: str, names: dict[str, str], seen: set[int]) -> Iterator[Item]:
    """The layers of a .keras or .weights.h5 file: 'layers/CLASS_N/vars/0', ..., models in models.

    A layer's name is an attribute of its variables, or since which place it has is known from the model's config.
    Groups may be linked to each other in circles: `seen` has those that were visited.
    """
    _enter(group, seen)
    variables = _local(group, 'vars') if 'vars' in group else {}
    if path and len(variables):
        name = _attribute(variables, 'name') or names.get(path.rstrip('/'))
        if name is None:
            raise UnreadableFileError(
                'it does not name its layers (weights alone of Keras 2.12 to 2.15): save the model'
            )
        if len(variables) not in _VARIABLES:
            raise UnreadableFileError(f'{group.name} has variables without known names')
        for number, variable in enumerate(_VARIABLES[len(variables)]):
            yield os.fsdecode(name), variable, _dataset(variables, str(number))
    if 'layers' in group:
        inner = _local(group, 'layers')
        for key in inner:
            yield from _numbered(_local(inner, key), f'{path}layers/{key}/', names, seen)
    elif not path:  # a model of one's own class: its attributes
        for key in group:
            if key not in _NO_LAYERS:
                yield from _numbered(_local(group, key), f'{key}/', names, seen)


def _enter(group: h5py.Group, seen: set[int]) -> None:
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        raise UnreadableFileError('a group of its layers has two places in it')
    seen.add(address)


def _local(group: h5py.Group, path: str) -> h5py.Group:
    """What `path` names inside of this very file: HDF5 links can lead to any file of the machine."""
    for part in filter(None, path.split('/')):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise UnreadableFileError(f'{path} is missing or leads out of the file')
        group = group[part]
    return group


def _dataset(group: h5py.Group, path: str) -> h5py.Dataset:
    """An array whose numbers are all stored in this file."""
    dataset = _local(group, path)
    own = isinstance(dataset, h5py.Dataset) and not dataset.external and not dataset.is_virtual
    if not own or dataset.dtype.kind not in 'fiub':
        raise UnreadableFileError(f'{path} is no array of its own')
    if dataset.id.get_create_plist().get_nfilters():  # what it unpacks to is not known before it is unpacked
        raise UnreadableFileError(f'{path} is compressed, which Keras does not do; save the model uncompressed')
    stored = min(dataset.id.get_storage_size(), _file_bytes(dataset))
    if dataset.nbytes > stored:
        raise UnreadableFileError(f'{path} has {dataset.nbytes} bytes, of which the file holds {stored}')
    return dataset


def _attribute(holder: Any, name: str) -> Any:
    """An attribute's value, or None where there is none."""
    if name not in holder.attrs:
        return None
    attribute = holder.attrs.get_id(name)
    count, each = math.prod(attribute.shape or ()), attribute.dtype.itemsize
    if attribute.dtype.kind == 'O':  # texts of any length, which may all be one text
        each = _file_bytes(holder)
        if count * each > MAX_WEIGHTS_BYTES:
            each -= _bytes_of_arrays(holder.file)
    check_bytes(f'its {name} may have', count * each)
    return holder.attrs[name]


def _file_bytes(item: Any) -> int:
    return item.file.id.get_filesize()


def _bytes_of_arrays(file: h5py.File) -> int:
    """How much of a file its arrays take, each counted once."""
    sizes = []
    file.visititems(lambda _, item: sizes.append(item.id.get_storage_size() if isinstance(item, h5py.Dataset) else 0))
    return sum(sizes)


def _spelling(key: str) -> str:
    layer, _, variable = key.rpartition('/')
    return f'{_layer_spelling(layer)}/{variable.removeprefix("depthwise_")}'


def _layer_spelling(layer: str) -> str:
    """E.g. 'expanded_conv/depthwise/BatchNorm' of Keras 2 and 'expanded_conv_depthwise_bn' of Keras 3 are one layer."""
    return layer.lower().replace('/', '_').replace('batchnorm', 'bn')
