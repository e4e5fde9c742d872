"""Random weights of one of our networks as another implementation would store them."""

import numpy as np

from mobilenets_jax.models import create_model
from mobilenets_jax.trees import named_leaves
from mobilenets_jax.weights.convert import _key
from mobilenets_jax.weights.layouts import LAYOUTS
from mobilenets_jax.weights.names import SOURCES
from mobilenets_jax.weights.network import trace


def source_arrays(source, name, width=1.0, num_classes=1000, seed=0, convention=None):
    """(our variables by path, the arrays that a file of `source` holds for them)."""
    model = create_model(name, num_classes, width, convention or SOURCES[source].convention)
    network = trace(name, model)
    names, layout = SOURCES[source].maps[name](network), SOURCES[source].layout
    generator = np.random.default_rng(seed)
    ours, theirs = {}, {}
    for layer in network.layers:
        for leaf, shape in layer.shapes.items():
            array = ours[leaf] = generator.random(shape, np.float32)
            theirs[_key(layer, leaf, names, LAYOUTS[layout])] = _to_source(array, layer, layout)
    return ours, theirs


def _to_source(array, layer, layout):
    if layout == 'pytorch':
        axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]
        return np.ascontiguousarray(array.transpose(axes))
    if layout == 'tflite':
        return array
    if layer.kind == 'depthwise' and array.ndim == 4:
        return array.transpose(0, 1, 3, 2)
    if layer.kind == 'dense' and layer.path != 'logits' and array.ndim == 2:
        return array[np.newaxis, np.newaxis]  # a 1x1 convolution
    return array


def assert_same(variables, expected):
    leaves = named_leaves(variables)
    assert leaves.keys() == expected.keys()
    for name, leaf in leaves.items():
        assert np.array_equal(leaf, expected[name]), name
