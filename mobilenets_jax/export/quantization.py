"""Float TFLite files in 8 bit, by the quantizer of LiteRT, without its losses of accuracy.

Its own calibration is a moving average of each image's range, which clips: here the ranges are those of `calibration`.
A channel whose weights are all 0, which trained networks have many of, gets a scale so small that its bias does not fit
into 32 bits and is lost: here such weights are lifted before, and all biases are checked after. Together they make the
difference between 4 and 75 % top-1 of MobileNetV3-Small. And the biases make up for the rounding of the weights, see
`bias_correction`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mobilenets_jax.errors import RunError, needed
from mobilenets_jax.export import flatbuffer
from mobilenets_jax.export.bias_correction import correct_biases
from mobilenets_jax.export.calibration import WHOLE, Ranges, activation_ranges
from mobilenets_jax.export.packages import quiet

INT8 = 'int8'
# By the names of `--quantize`: the quantizer's recipe, and what becomes of the numbers.
RECIPES = {
    'dynamic': 'dynamic_wi8_afp32',  # weights stored in 8 bit, activations rounded to 8 bit image by image
    INT8: 'static_wi8_ai8',  # weights and activations in 8 bit, by calibrated ranges; the only one without floats
    'weights': 'weight_only_wi8_afp32',  # weights stored in 8 bit, all computed in float32
}
LIFT = 1e-4  # of a layer's largest weight: the least that the largest weight of one of its channels is


def quantize(
    content: bytes,
    mode: str,
    images: np.ndarray | None,
    normalization: str,
    percentile: float = WHOLE,
    learned: Ranges | None = None,
) -> bytes:
    """Quantizes a float TFLite file.

    Args:
        content: of the file.
        mode: a key of `RECIPES`.
        images: to calibrate with, normalised, float32 [n, H, W, 3], which 'int8' needs; without them the biases stay as
            they are.
        normalization: of the images, a key of `data.options.NORMALIZATIONS`.
        percentile: of the activations, see `calibration.activation_ranges`.
        learned: of a network that was trained for 8 bit, the ranges of some tensors, see `learned_ranges`; None of all
            others. Its biases stay as they are: they were trained with the rounded weights.

    Raises:
        RunError: a bias was lost.
        UserError: the quantizer is not installed, or there are too few images.
    """
    lifted, _ = lift_dead_channels(content)
    if images is not None and learned is None:
        lifted = correct_biases(lifted, _rounded(lifted, 'dynamic', None), images)
    if mode != INT8:
        return _rounded(lifted, mode, None)
    ranges = activation_ranges(lifted, images, normalization, percentile) | (learned or {})
    quantized = _rounded(lifted, mode, ranges)
    check_biases(lifted, quantized)
    return quantized


def _rounded(content: bytes, mode: str, ranges: Ranges | None) -> bytes:
    """The file that the quantizer makes."""
    recipe, quantizer = (needed(f'ai_edge_quantizer.{name}') for name in ('recipe', 'quantizer'))
    with quiet():
        maker = quantizer.Quantizer(content, getattr(recipe, RECIPES[mode])())
        statistics = None if ranges is None else _statistics(ranges)
        made = maker.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
    # Packed again: the quantizer stores large constants after the file, where older runtimes do not find them.
    return flatbuffer.pack(flatbuffer.unpack(bytes(made.quantized_model)))


def lift_dead_channels(content: bytes) -> tuple[bytes, int]:
    """Gives every channel of every layer a weight of at least `LIFT` times the layer's largest.

    Of a channel below that its largest weight is set to it, which changes no output that 8 bits could tell.

    Returns:
        The file, and how many channels were lifted.
    """
    model, count = flatbuffer.unpack(content), 0
    for operation in flatbuffer.weighted_operations(model):
        weights = flatbuffer.stored(model, operation.weights)
        axis = flatbuffer.CHANNEL_AXIS[operation.name]
        rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1).copy()  # (channels, weights of each)
        peaks = np.abs(rows).max(axis=1)
        least = LIFT * (peaks.max() or 1)
        dead = np.flatnonzero(peaks < least)
        largest = np.abs(rows).argmax(axis=1)[dead]
        rows[dead, largest] = np.where(rows[dead, largest] < 0, -least, least)
        count += len(dead)
        others = np.delete(weights.shape, axis)
        changed = np.moveaxis(rows.reshape(weights.shape[axis], *others), 0, axis)
        model.buffers[operation.weights.buffer].data = np.frombuffer(changed.tobytes(), np.uint8)
    return flatbuffer.pack(model), count


def check_biases(before: bytes, after: bytes) -> None:
    """Raises `RunError` unless every bias of a quantized file is that of the float file, to one step of its scale."""
    models = [flatbuffer.unpack(content) for content in (before, after)]
    operations = [list(flatbuffer.weighted_operations(model)) for model in models]
    if [operation.name for operation in operations[0]] != [operation.name for operation in operations[1]]:
        raise RunError('the quantized file has other layers than the float file.')
    lost, layers = 0, 0
    for pair in zip(*operations, strict=True):
        wrong = _wrong_biases(models, pair)
        lost, layers = lost + wrong, layers + (wrong > 0)
    if lost:
        raise RunError(
            f'the quantizer lost the biases of {lost} channel(s) in {layers} layer(s), whose weights are too small for '
            'their biases; nothing is written.'
        )


def _wrong_biases(models: list[Any], pair: tuple[flatbuffer.WeightedOperation, ...]) -> int:
    wanted, found = (operation.bias for operation in pair)
    if wanted is None or found is None:
        return 0 if wanted is found else flatbuffer.stored(models[0], wanted or found).size
    scheme = found.quantization
    step = 0.0 if scheme is None or scheme.scale is None else np.asarray(scheme.scale, np.float64)
    difference = np.abs(flatbuffer.values(models[1], found) - flatbuffer.values(models[0], wanted))
    return int((difference > step + 1e-6 * np.abs(flatbuffer.values(models[0], wanted))).sum())


def _statistics(ranges: Ranges) -> Mapping[str, dict[str, np.ndarray]]:
    """The ranges in the form that the quantizer takes."""
    return {
        name: {'min': np.array([low], np.float32), 'max': np.array([high], np.float32)}
        for name, (low, high) in ranges.items()
    }
