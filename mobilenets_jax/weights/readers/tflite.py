"""Reads TFLite files, float or quantized: the weights, the graph of operations on them, and its input."""

import pathlib

import numpy as np

from mobilenets_jax.data.options import NORMALIZATIONS
from mobilenets_jax.weights.readers.contents import Contents
from mobilenets_jax.weights.readers.errors import UnreadableFileError
from mobilenets_jax.weights.readers.tflite_graph import Graph, load

LAST = 'last'

# From TFLite's layout to ours: OHWI -> HWIO, 1HWC -> HW1C, (out, in) -> (in, out).
_AXES = {'CONV_2D': (1, 2, 3, 0), 'DEPTHWISE_CONV_2D': (1, 2, 0, 3), 'FULLY_CONNECTED': (1, 0)}
# What we call a range -> what black and white are in it, by channel.
_RANGES = {
    name: tuple((pixel - np.array(mean)) / np.array(std) for pixel in (0.0, 1.0))
    for name, (mean, std) in NORMALIZATIONS.items()
}
_RANGE_TOLERANCE = 0.03  # the scale of a quantized input leaves out a step at one end
# What people feed to float inputs: a file that scales its input itself says which by what comes out.
_FED = ((0.0, 255.0), (0.0, 1.0), (-1.0, 1.0))


def read(path: pathlib.Path) -> Contents:
    """Kernels and biases in float32, in our layouts, by the order of execution: '000/kernel', ..., 'last/bias'."""
    graph = load(path.read_bytes())
    keys = [f'{number:03d}' for number in range(len(graph.layers) - 1)] + [LAST]
    arrays = {}
    for key, layer in zip(keys, graph.layers, strict=True):
        arrays[f'{key}/kernel'] = layer.kernel.transpose(_AXES[layer.name])
        arrays[f'{key}/bias'] = layer.bias
    return Contents(arrays, graph.image_size, _find_normalization(graph), graph=graph)


def _find_normalization(graph: Graph) -> str | None:
    """The range of the network's input, after the scales at the start of the graph; None: the file does not say.

    Raises:
        UnreadableFileError: it is scaled to none of our ranges.
    """
    scaled = not (np.all(graph.scale == 1) and np.all(graph.offset == 0))
    if graph.fed is None and not scaled:
        return None
    found = []
    for low, high in _FED if graph.fed is None else [graph.fed]:
        ends = [np.broadcast_to(graph.scale * end + graph.offset, 3) for end in (low, high)]
        found += [name for name, known in _RANGES.items() if np.allclose(ends, known, rtol=0, atol=_RANGE_TOLERANCE)]
    if not found:
        low, high = _FED[0] if graph.fed is None else graph.fed
        ends = ', '.join(f'{np.ravel(graph.scale * end + graph.offset)[0]:.4g}' for end in (low, high))
        raise UnreadableFileError(f'its input is scaled to [{ends}], which is none of {", ".join(_RANGES)}')
    return found[0]
