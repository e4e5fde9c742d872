"""The ranges of a network's activations on real images, by which a static quantization rounds them."""

from collections.abc import Iterator

import numpy as np

from mobilenets_jax.data.options import quantized_input_range
from mobilenets_jax.errors import check, needed
from mobilenets_jax.export import flatbuffer
from mobilenets_jax.export.litert import interpreter

MIN_IMAGES = 10
WHOLE = 100.0  # percent of the values of an image that are in the range

Ranges = dict[str, tuple[float, float]]  # by a tensor's name its least and its largest value


def activation_ranges(content: bytes, images: np.ndarray, normalization: str, percentile: float = WHOLE) -> Ranges:
    """The least and the largest value of every tensor that a network computes.

    The input's range is that from black to white, whatever the images have of it.

    Args:
        content: of a float TFLite file.
        images: normalised, float32 [n, H, W, 3].
        normalization: of the images, a key of `data.options.NORMALIZATIONS`.
        percentile: of the values of each image at the upper end, and so much less at the lower; 100 takes all values.
            Of several images the widest range counts.

    Raises:
        UserError: too few images, or a percentile that is none.
    """
    check(len(images) >= MIN_IMAGES, '--calibration', len(images), f'images are too few: {MIN_IMAGES} are the least')
    check(50 < percentile <= WHOLE, '--percentile', percentile, 'must be in (50, 100]')
    names = _computed(content)
    ranges: Ranges = {}
    for tensors in activations(content, images):
        for index, values in tensors.items():
            found, known = _ends(values, percentile), ranges.get(names[index], (np.inf, -np.inf))
            ranges[names[index]] = min(found[0], known[0]), max(found[1], known[1])
    entrance = flatbuffer.unpack(content).subgraphs[0].inputs[0]
    ranges[names[entrance]] = quantized_input_range(normalization)
    # What is always 0 would have a scale of 0, and the biases of the layer that reads it could not be stored.
    return {name: ends if any(ends) else (0.0, 1.0) for name, ends in ranges.items()}


def activations(content: bytes, images: np.ndarray) -> Iterator[dict[int, np.ndarray]]:
    """What a network computes of each image: the values of all its float tensors by their index.

    Args:
        content: of a float TFLite file.
        images: normalised, float32 [n, H, W, 3].
    """
    # A delegate would keep to itself what its operations hand to each other.
    plain = needed('ai_edge_litert.interpreter').OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    options = {'experimental_op_resolver_type': plain, 'experimental_preserve_all_tensors': True}
    network, names = interpreter(content, 'the network', **options), _computed(content)
    entrance = network.get_input_details()[0]['index']
    for image in images:
        network.set_tensor(entrance, image[None])
        network.invoke()
        yield {index: network.get_tensor(index) for index in names}


def _computed(content: bytes) -> dict[int, str]:
    """Index and name of the float tensors that are no constants."""
    model = flatbuffer.unpack(content)
    is_float = flatbuffer.schema().TensorType.FLOAT32
    return {
        index: tensor.name.decode()
        for index, tensor in enumerate(model.subgraphs[0].tensors)
        if tensor.type == is_float and flatbuffer.stored(model, tensor) is None
    }


def _ends(values: np.ndarray, percentile: float) -> tuple[float, float]:
    if percentile == WHOLE:
        return float(values.min()), float(values.max())
    low, high = np.percentile(values, (WHOLE - percentile, percentile))
    return float(low), float(high)
