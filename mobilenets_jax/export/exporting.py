"""A trained network as a TFLite file, float or quantized, that is compared with it before anybody gets it."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from mobilenets_jax.data.augmentation import normalize
from mobilenets_jax.data.options import quantized_input_range
from mobilenets_jax.export import converter, flatbuffer, lowering, metadata
from mobilenets_jax.export.agreement import Agreement, agreement, check_float, check_quantized
from mobilenets_jax.export.calibration import WHOLE
from mobilenets_jax.export.images import photographs
from mobilenets_jax.export.learned_ranges import learned_ranges
from mobilenets_jax.export.litert import LiteNetwork
from mobilenets_jax.export.quantization import INT8, quantize
from mobilenets_jax.fake_quantization import apply_rounded
from mobilenets_jax.inference import TrainedNetwork, freeze

NONE = 'none'
COMPARED = 8  # images that the network itself computes, which takes it a while to be compiled for


class Exported(NamedTuple):
    """What was made, and what is known about it.

    Attributes:
        content: of the file.
        operations: how many of each name.
        delegates: how many parts of the graph LiteRT's delegate runs on this machine; 1 where it runs all of it.
        float_agreement: of the float file with the network.
        quantized_agreement: of the quantized file with the float file, or of an int8 file with the network as it was
            trained for 8 bit; None of a float file.
        learned_ranges: how many tensors are rounded by ranges that were learned in training.
    """

    content: bytes
    operations: dict[str, int]
    delegates: int
    float_agreement: Agreement
    quantized_agreement: Agreement | None
    learned_ranges: int


def export(
    network: TrainedNetwork, mode: str = NONE, pixels: np.ndarray | None = None, percentile: float = WHOLE
) -> Exported:
    """Converts, quantizes and compares.

    Args:
        network: with its weights, and how an image becomes its input.
        mode: 'none', or a key of `quantization.RECIPES`.
        pixels: images to calibrate with and to compare on, as the network's evaluation has them, uint8
            [n, H, W, 3]; None: parts of two photographs, on which nothing is calibrated.
        percentile: of the activations, see `calibration.activation_ranges`.

    Raises:
        RunError: the converter or the quantizer fails, or what it makes computes something else.
        UserError: a package is missing, or there are too few images.
    """
    size, normalization = network.image_size, network.normalization
    images = np.asarray(normalize(photographs(size) if pixels is None else pixels, normalization))
    in_float = lowering.in_float32(network.model)
    arguments = network.model, network.variables, size
    program, outputs = lowering.stablehlo(*arguments), lowering.output_names(*arguments)
    content = converter.to_tflite(program, lowering.INPUT, *outputs)
    original = freeze(in_float, network.variables)
    float_file = LiteNetwork(content, 'the converted network')
    of_float = agreement(_each(original, images[:COMPARED]), _each(float_file, images[:COMPARED]))
    check_float(of_float)
    of_quantized: Agreement | None = None
    learned: dict[str, tuple[float, float]] | None = {} if network.ranges else None
    if mode != NONE:
        expected: Callable[[np.ndarray], Any] = float_file
        if network.ranges and mode == INT8:
            learned = learned_ranges(content, in_float, network.variables, network.ranges, images)
            expected = in_8_bit(network)
        content = quantize(content, mode, None if pixels is None else images, normalization, percentile, learned)
        quantized_file = LiteNetwork(content, 'the quantized network')
        of_quantized = agreement(_each(expected, images), _each(quantized_file, images))
        check_quantized(of_quantized)
    content = metadata.with_metadata(content, record(network, mode), outputs, network.labels, network.anchors)
    delegates = LiteNetwork(content, 'the file').delegates
    operations = flatbuffer.operation_counts(content)
    return Exported(content, operations, delegates, of_float, of_quantized, len(learned or ()))


def in_8_bit(network: TrainedNetwork) -> Callable[[np.ndarray], jax.Array]:
    """A network that was trained for 8 bit, rounded as in training: from normalised images to logits."""
    model = lowering.in_float32(network.model)
    options: dict[str, Any] = {'ranges': network.ranges, 'input_range': quantized_input_range(network.normalization)}
    # The variables are arguments: as constants XLA would round them while it compiles, which takes it long.
    rounded = jax.jit(lambda variables, images: apply_rounded(model, variables, images, **options)[0])
    return functools.partial(rounded, network.variables)


def _each(network: Callable[[np.ndarray], Any], images: np.ndarray) -> Iterator[Any]:
    """What a network returns for each of the images by itself: of a segmentation network all would be much memory."""
    for image in images:
        yield jax.tree.map(lambda leaf: np.asarray(leaf[0]), network(image[None]))


def record(network: TrainedNetwork, mode: str) -> dict[str, Any]:
    """The record of the file; see `metadata`."""
    return {
        'task': network.task,
        'model': network.config['model.name'],
        'quantization': mode,
        'image_size': list(network.image_size),
        'normalization': network.normalization,
        'class_names': list(network.class_names),
        'config': dict(network.config),
        'facts': dict(network.facts),
    }
