"""A trained classifier as a TFLite file, float or quantized, that is compared with it before anybody gets it."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from mobilenets_jax.data.augmentation import normalize
from mobilenets_jax.export import converter, flatbuffer, lowering, metadata
from mobilenets_jax.export.agreement import Agreement, agreement, check_float, check_quantized
from mobilenets_jax.export.calibration import WHOLE
from mobilenets_jax.export.images import photographs
from mobilenets_jax.export.litert import LiteNetwork
from mobilenets_jax.export.quantization import quantize
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
        quantized_agreement: of the quantized file with the float file; None of a float file.
    """

    content: bytes
    operations: dict[str, int]
    delegates: int
    float_agreement: Agreement
    quantized_agreement: Agreement | None


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
    network = freeze(lowering.in_float32(pretrained.model), pretrained.variables)
    float_file = LiteNetwork(content, 'the converted network')
    of_float = agreement(np.asarray(network(images[:COMPARED])), float_file(images[:COMPARED]))
    check_float(of_float)
    of_quantized = None
    if mode != NONE:
        content = quantize(content, mode, None if pixels is None else images, value_range, percentile)
        of_quantized = agreement(float_file(images), LiteNetwork(content, 'the quantized network')(images))
        check_quantized(of_quantized)
    content = metadata.with_metadata(content, record(pretrained, mode), pretrained.class_names)
    delegates = LiteNetwork(content, 'the file').delegates
    return Exported(content, flatbuffer.operation_counts(content), delegates, of_float, of_quantized)


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
