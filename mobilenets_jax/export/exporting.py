"""A trained classifier as a TFLite file, float or quantized, that is compared with it before anybody gets it."""

import dataclasses
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
from mobilenets_jax.inference import freeze
from mobilenets_jax.weights.pretrained import Pretrained

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
    pretrained: Pretrained, mode: str = NONE, pixels: np.ndarray | None = None, percentile: float = WHOLE
) -> Exported:
    """Converts, quantizes and compares.

    Args:
        pretrained: the network, its weights, and how an image becomes its input.
        mode: 'none', or a key of `quantization.RECIPES`.
        pixels: images to calibrate with and to compare on, as the network's evaluation crops them, uint8
            [n, size, size, 3]; None: parts of two photographs, on which nothing is calibrated.
        percentile: of the activations, see `calibration.activation_ranges`.

    Raises:
        RunError: the converter or the quantizer fails, or what it makes computes something else.
        UserError: a package is missing, or there are too few images.
    """
    size, value_range = pretrained.card.preprocessing.image_size, pretrained.card.preprocessing.value_range
    images = np.asarray(normalize(photographs(size) if pixels is None else pixels, value_range))
    program = lowering.stablehlo(pretrained.model, pretrained.variables, (size, size))
    content = converter.to_tflite(program, lowering.INPUT, lowering.OUTPUT)
    network_in_float = lowering.in_float32(pretrained.model)
    network = freeze(network_in_float, pretrained.variables)
    float_file = LiteNetwork(content, 'the converted network')
    of_float = agreement(np.asarray(network(images[:COMPARED])), float_file(images[:COMPARED]))
    check_float(of_float)
    of_quantized, learned = None, {} if pretrained.ranges else None
    if mode != NONE:
        expected = float_file(images)
        if pretrained.ranges and mode == INT8:
            learned = learned_ranges(content, network_in_float, pretrained.variables, pretrained.ranges, images)
            expected = in_8_bit(pretrained, images)
        content = quantize(content, mode, None if pixels is None else images, value_range, percentile, learned)
        of_quantized = agreement(expected, LiteNetwork(content, 'the quantized network')(images))
        check_quantized(of_quantized)
    content = metadata.with_metadata(content, record(pretrained, mode), pretrained.class_names)
    delegates = LiteNetwork(content, 'the file').delegates
    operations = flatbuffer.operation_counts(content)
    return Exported(content, operations, delegates, of_float, of_quantized, len(learned or ()))


def in_8_bit(pretrained: Pretrained, images: np.ndarray) -> np.ndarray:
    """The logits of a network that was trained for 8 bit, rounded as they were in training.

    Args:
        pretrained: the network, with its ranges.
        images: normalised, float32 [n, H, W, 3].
    """
    model = lowering.in_float32(pretrained.model)
    input_range = quantized_input_range(pretrained.card.preprocessing.value_range)
    options = {'ranges': pretrained.ranges, 'input_range': input_range}
    network = jax.jit(lambda variables, images: apply_rounded(model, variables, images, **options)[0])
    return np.concatenate([np.asarray(network(pretrained.variables, image[None])) for image in images])


def record(pretrained: Pretrained, mode: str) -> dict[str, Any]:
    """What the file says about itself; see `metadata`."""
    card = pretrained.card
    return {
        'task': card.task,
        'model': card.model,
        'width_multiplier': card.width_multiplier,
        'convention': card.convention,
        'quantization': mode,
        'preprocessing': dataclasses.asdict(card.preprocessing),
        'class_names': list(card.class_names),
    }
