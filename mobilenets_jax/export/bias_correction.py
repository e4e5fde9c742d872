"""Biases that make up for what the rounding of the weights does to the mean of every channel.

Rounding changes the outputs of a layer by the error of its weights times its inputs. The inputs behind a ReLU have
means above 0, so the errors do not cancel, and all pixels of a channel are shifted alike: it is what small depthwise
networks lose most by. The mean of the inputs is known from the calibration, and the shift is taken from the biases.

Paper: Nagel et al., 1906.04721, section 4.2; the means are measured here.
"""

import copy
from typing import Any

import numpy as np

from mobilenets_jax.export import flatbuffer
from mobilenets_jax.export.calibration import activations


def correct_biases(content: bytes, rounded: bytes, images: np.ndarray) -> bytes:
    """A float file whose biases fit the rounded weights.

    Args:
        content: of the float TFLite file.
        rounded: the same network with its weights quantized, and no layer more or less.
        images: normalised, float32 [n, H, W, 3].
    """
    means = _input_means(content, images)
    model, other = flatbuffer.unpack(content), flatbuffer.unpack(rounded)
    graph = model.subgraphs[0]
    pairs = zip(flatbuffer.weighted_operations(model), flatbuffer.weighted_operations(other), strict=True)
    for layer, rounded_layer in pairs:
        if layer.bias is None:
            continue
        error = flatbuffer.values(other, rounded_layer.weights) - flatbuffer.values(model, layer.weights)
        shift = _shift(layer.name, error, means[graph.operators[layer.number].inputs[0]])
        _set_bias(model, layer, flatbuffer.values(model, layer.bias) - shift)
    return flatbuffer.pack(model)


def _shift(name: str, error: np.ndarray, means: np.ndarray) -> np.ndarray:
    """How the mean of each output channel changes by errors of the weights.

    Args:
        name: of the operation.
        error: in TFLite's layout: OHWI, 1HWC, or (out, in).
        means: of the input channels, [C].
    """
    if name == 'DEPTHWISE_CONV_2D':
        return error.sum(axis=(0, 1, 2)) * means
    taps = error.reshape(len(error), -1, error.shape[-1]).sum(axis=1)  # (out, in / groups)
    groups = len(means) // taps.shape[1]
    by_group = taps.reshape(groups, -1, taps.shape[1])  # (groups, out / groups, in / groups)
    return np.einsum('goi,gi->go', by_group, means.reshape(groups, -1)).reshape(-1)


def _input_means(content: bytes, images: np.ndarray) -> dict[int, np.ndarray]:
    """The mean of each channel, [C], of all tensors by their index."""
    sums: dict[int, np.ndarray] = {}
    for tensors in activations(content, images):
        for index, values in tensors.items():
            sums[index] = sums.get(index, 0) + values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)
    return {index: total / len(images) for index, total in sums.items()}


def _set_bias(model: Any, layer: flatbuffer.WeightedOperation, bias: np.ndarray) -> None:
    """Gives a layer a bias of its own: converters let layers share those that are equal, such as zeros."""
    graph = model.subgraphs[0]
    tensor, buffer = copy.copy(layer.bias), flatbuffer.schema().BufferT()
    tensor.name, tensor.buffer = f'bias{layer.number}'.encode(), len(model.buffers)
    buffer.data = np.frombuffer(bias.astype(np.float32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    inputs = graph.operators[layer.number].inputs.copy()
    inputs[2] = len(graph.tensors)
    graph.operators[layer.number].inputs = inputs
    graph.tensors.append(tensor)
