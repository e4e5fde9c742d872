"""The ranges that a network learned while it trained for 8 bit, for the tensors of its TFLite file.

The converter chooses the names of the tensors. Their values tell which tensor is which point of the network: the file
and the network compute the same images, and a tensor with the values of a point gets the range of that point.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import numpy as np

from mobilenets_jax.errors import RunError
from mobilenets_jax.export import calibration, flatbuffer
from mobilenets_jax.fake_quantization import activations

COMPARED = 2  # images
TOLERANCE = 1e-3  # of a point's largest value: conversion changes 1e-5, and no other tensor comes near


def learned_ranges(
    content: bytes, model: nn.Module, variables: Mapping, ranges: Mapping[str, tuple[float, float]], images: np.ndarray
) -> calibration.Ranges:
    """The learned ranges by the names of a file's tensors; tensors that are no point of the network have none.

    Args:
        content: of the float TFLite file.
        model: the network that it was made of.
        variables: its parameters and statistics.
        ranges: by the names of its points, see `fake_quantization`.
        images: normalised, float32 [n, H, W, 3].

    Raises:
        RunError: a point is no tensor of the file.
    """
    images, order = images[:COMPARED], []

    @jax.jit
    def compute(variables, images):
        found = activations(model, variables, images)
        order.extend(found)  # in which they are computed; JAX sorts what it returns
        return found

    computed = compute(variables, images)
    points = {name: np.asarray(computed[name]) for name in order}
    graph = flatbuffer.unpack(content).subgraphs[0]
    tensors = [dict(found) for found in calibration.activations(content, images)]
    learned, missing = {}, set(points)
    for index in (index for operation in graph.operators for index in operation.outputs if index in tensors[0]):
        fitting = _fitting(np.stack([found[index].reshape(-1) for found in tensors]), points)
        if fitting:
            # Points share their values where a gate is open, or an image is one pixel: the first tensor is the first.
            point = next((name for name in fitting if name in missing), fitting[-1])
            low, high = ranges[point]
            learned[graph.tensors[index].name.decode()] = (low, high) if low or high else (0.0, 1.0)
            missing.discard(point)
    if missing:
        raise RunError(
            f'{len(missing)} of {len(points)} learned range(s) belong to no tensor of the converted network, such as '
            f'that of {min(missing)}; nothing is written.'
        )
    return learned


def _fitting(values: np.ndarray, points: Mapping[str, np.ndarray]) -> list[str]:
    """The points that have the values, [n, size], of a tensor, in their order."""
    return [
        name
        for name, point in points.items()
        if point.size == values.size
        and np.abs(point.reshape(values.shape) - values).max() <= TOLERANCE * np.abs(point).max()
    ]
