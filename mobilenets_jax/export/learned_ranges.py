"""The ranges that a network learned while it trained for 8 bit, for the tensors of its TFLite file.

A converter names tensors as it likes. Which one is which point of the network is told by its values: both compute some
images, and where a tensor is what the network has at a point, it gets that point's range.
"""

import functools
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
    images = images[:COMPARED]
    points = jax.tree.map(np.asarray, jax.jit(functools.partial(activations, model))(variables, images))
    tensors = [dict(found) for found in calibration.activations(content, images)]
    names = [tensor.name.decode() for tensor in flatbuffer.unpack(content).subgraphs[0].tensors]
    learned, missing = {}, set(points)
    for index in tensors[0]:
        values = np.stack([found[index].reshape(-1) for found in tensors])
        differences = _fitting(values, points)
        if differences:
            low, high = ranges[min(differences, key=differences.get)]
            learned[names[index]] = (low, high) if low or high else (0.0, 1.0)  # as in `activation_ranges`
        # Two points may have the same values, such as an image of one pixel and its mean.
        missing -= set(differences)
    if missing:
        raise RunError(
            f'{len(missing)} of {len(points)} learned range(s) belong to no tensor of the converted network, such as '
            f'that of {min(missing)}; nothing is written.'
        )
    return learned


def _fitting(values: np.ndarray, points: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The points that have the values, [n, size], of a tensor, with the largest difference."""
    differences = {}
    for name, point in points.items():
        if point.size == values.size:
            difference = np.abs(point.reshape(values.shape) - values).max()
            if difference <= TOLERANCE * np.abs(point).max():
                differences[name] = float(difference)
    return differences
