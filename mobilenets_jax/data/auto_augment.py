"""AutoAugment's ImageNet policy v0, RandAugment and TrivialAugment, as TensorFlow operations by a seed alone.

Paper: 1805.09501 (AutoAugment), 1909.13719 (RandAugment), 2103.10158 (TrivialAugment).
Reference: timm 1.0.31, data/auto_augment.py: policy 'v0' (tensorflow/tpu's, which no paper prints) and
    'rand-mM-mstdS'; torchvision 0.28, transforms/autoaugment.py: `TrivialAugmentWide`. Their operations are PIL's;
    ours give PIL's pixels.
Differs:
    Shapes are moved with nearest-neighbour interpolation, as tensorflow/tpu and torchvision do; timm draws bilinear or
    bicubic.
    Translations are parts of the side, as in timm; tensorflow/tpu's 250 pixels leave nothing of a 224-pixel image.
    One of TrivialAugment's 31 translations is 16 pixels, of which torchvision's rounding makes 15.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mobilenets_jax.data.options import MAX_MAGNITUDE, ImageOptions

FILL = 128  # what comes from outside the image; of TrivialAugment it is black
OPERATION_PROBABILITY = 0.5  # of each of RandAugment's operations
SOLARIZE_ADD_THRESHOLD = 128

# The sub-policies: name of an operation, its probability, its magnitude.
POLICY_V0 = (
    (('Equalize', 0.8, 1), ('ShearY', 0.8, 4)),
    (('Color', 0.4, 9), ('Equalize', 0.6, 3)),
    (('Color', 0.4, 1), ('Rotate', 0.6, 8)),
    (('Solarize', 0.8, 3), ('Equalize', 0.4, 7)),
    (('Solarize', 0.4, 2), ('Solarize', 0.6, 2)),
    (('Color', 0.2, 0), ('Equalize', 0.8, 8)),
    (('Equalize', 0.4, 8), ('SolarizeAdd', 0.8, 3)),
    (('ShearX', 0.2, 9), ('Rotate', 0.6, 8)),
    (('Color', 0.6, 1), ('Equalize', 1.0, 2)),
    (('Invert', 0.4, 9), ('Rotate', 0.6, 0)),
    (('Equalize', 1.0, 9), ('ShearY', 0.6, 3)),
    (('Color', 0.4, 7), ('Equalize', 0.6, 0)),
    (('Posterize', 0.4, 6), ('AutoContrast', 0.4, 7)),
    (('Solarize', 0.6, 8), ('Color', 0.6, 9)),
    (('Solarize', 0.2, 4), ('Rotate', 0.8, 9)),
    (('Rotate', 1.0, 7), ('TranslateY', 0.8, 9)),
    (('ShearX', 0.0, 0), ('Solarize', 0.8, 4)),
    (('ShearY', 0.8, 0), ('Color', 0.6, 4)),
    (('Color', 1.0, 0), ('Rotate', 0.6, 2)),
    (('Equalize', 0.8, 4), ('Equalize', 0.0, 8)),
    (('Equalize', 1.0, 4), ('AutoContrast', 0.6, 2)),
    (('ShearY', 0.4, 7), ('SolarizeAdd', 0.6, 7)),
    (('Posterize', 0.8, 2), ('Solarize', 0.6, 10)),
    (('Solarize', 0.6, 8), ('Equalize', 0.6, 1)),
    (('Color', 0.8, 6), ('Rotate', 0.4, 5)),
)


def auto_augment(image: tf.Tensor, seed: tf.Tensor, options: ImageOptions) -> tf.Tensor:
    """Distorts an image, uint8 [H, W, 3], as `options.auto_augment` says, by an int32 [2] seed."""
    if options.auto_augment == 'autoaugment_v0':
        return _policy_v0(image, seed)
    if options.auto_augment == 'randaugment':
        return _randaugment(image, seed, options)
    if options.auto_augment == 'trivialaugment_wide':
        return _trivialaugment(image, seed)
    return image


def _policy_v0(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    choice_seed, *seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    choice = tf.random.stateless_uniform([], choice_seed, 0, len(POLICY_V0), tf.int32)
    names = list(OPERATIONS)
    for step, step_seed in enumerate(seeds):
        rows = [policy[step] for policy in POLICY_V0]
        operation = tf.constant([names.index(name) for name, _, _ in rows])[choice]
        probability = tf.constant([probability for _, probability, _ in rows])[choice]
        magnitude = tf.constant([float(magnitude) for _, _, magnitude in rows])[choice]
        image = _apply_sometimes(image, step_seed, operation, probability, magnitude)
    return image


def _randaugment(image: tf.Tensor, seed: tf.Tensor, options: ImageOptions) -> tf.Tensor:
    for layer_seed in tf.unstack(tf.random.experimental.stateless_split(seed, options.randaugment_layers)):
        choice_seed, magnitude_seed, step_seed = tf.unstack(tf.random.experimental.stateless_split(layer_seed, 3))
        operation = tf.random.stateless_uniform([], choice_seed, 0, len(OPERATIONS), tf.int32)
        noise = options.randaugment_magnitude_std * tf.random.stateless_normal([], magnitude_seed)
        magnitude = tf.clip_by_value(options.randaugment_magnitude + noise, 0.0, MAX_MAGNITUDE)
        image = _apply_sometimes(image, step_seed, operation, OPERATION_PROBABILITY, magnitude)
    return image


def _trivialaugment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """One operation at one of its magnitudes, each as likely as the others."""
    operation_seed, magnitude_seed, sign_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    operation = tf.random.stateless_uniform([], operation_seed, 0, len(WIDE_OPERATIONS), tf.int32)
    number = tf.random.stateless_uniform([], magnitude_seed, 0, MAGNITUDES, tf.int32)
    choices = WIDE_OPERATIONS.values()
    magnitude = tf.constant(np.stack([choice.magnitudes for choice in choices]))[operation, number]
    negative = tf.constant([choice.signed for choice in choices])[operation]
    negative &= tf.random.stateless_uniform([], sign_seed) < 0.5
    magnitude = tf.where(negative, -magnitude, magnitude)
    return tf.switch_case(operation, [lambda f=choice.function: f(image, magnitude) for choice in choices])


def _apply_sometimes(
    image: tf.Tensor, seed: tf.Tensor, operation: tf.Tensor, probability: float | tf.Tensor, magnitude: tf.Tensor
) -> tf.Tensor:
    """Applies one of `OPERATIONS` with a probability, and in one of the two directions if it has any."""
    chance, direction = tf.unstack(tf.random.stateless_uniform([2], seed))
    strength = tf.cast(magnitude, tf.float64) / MAX_MAGNITUDE
    signed = tf.where(direction < 0.5, -strength, strength)
    branches = [lambda f=function: f(image, strength, signed) for function in OPERATIONS.values()]
    return tf.cond(chance < probability, lambda: tf.switch_case(operation, branches), lambda: image)


def blend(degenerate: tf.Tensor, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Between `degenerate` (factor 0) and `image` (1), or beyond it, as PIL.ImageEnhance: clipped, rounded down."""
    start = tf.cast(degenerate, tf.float32)
    blended = start + tf.cast(factor, tf.float32) * (tf.cast(image, tf.float32) - start)
    return tf.cast(tf.clip_by_value(blended, 0.0, 255.0), tf.uint8)


def grey(image: tf.Tensor) -> tf.Tensor:
    """PIL's mode L, uint8 [H, W, 1]."""
    weighted = tf.reduce_sum(tf.cast(image, tf.int32) * [19595, 38470, 7471], axis=-1, keepdims=True)
    return tf.cast((weighted + 0x8000) // 2**16, tf.uint8)


def color(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """PIL.ImageEnhance.Color."""
    return blend(grey(image), image, factor)


def contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """PIL.ImageEnhance.Contrast."""
    mean = tf.floor(tf.reduce_mean(tf.cast(grey(image), tf.float64)) + 0.5)
    return blend(tf.fill(tf.shape(image), mean), image, factor)


def brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """PIL.ImageEnhance.Brightness."""
    return blend(tf.zeros_like(image), image, factor)


def sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """PIL.ImageEnhance.Sharpness: away from PIL.ImageFilter.SMOOTH, which leaves the border as it is."""
    kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32)[..., None, None] / 13
    kernel = tf.tile(kernel, [1, 1, 3, 1])
    inner = tf.nn.depthwise_conv2d(tf.cast(image, tf.float32)[None], kernel, [1, 1, 1, 1], 'VALID')[0]
    inner = tf.cast(tf.floor(tf.clip_by_value(inner + 0.5, 0.0, 255.0)), tf.int32)
    rows = tf.concat([tf.cast(image[:1, 1:-1], tf.int32), inner, tf.cast(image[-1:, 1:-1], tf.int32)], axis=0)
    smooth = tf.concat([tf.cast(image[:, :1], tf.int32), rows, tf.cast(image[:, -1:], tf.int32)], axis=1)
    return blend(smooth, image, factor)


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """PIL.ImageOps.autocontrast: each channel's range stretched to 0 .. 255."""
    low = tf.cast(tf.reduce_min(image, axis=[0, 1]), tf.float64)
    high = tf.cast(tf.reduce_max(image, axis=[0, 1]), tf.float64)
    scale = tf.where(high > low, 255 / tf.maximum(high - low, 1), 1)
    offset = tf.where(high > low, -low * scale, 0)
    stretched = tf.cast(image, tf.float64) * scale + offset
    return tf.cast(tf.clip_by_value(stretched, 0, 255), tf.uint8)


def equalize(image: tf.Tensor) -> tf.Tensor:
    """PIL.ImageOps.equalize: each channel's histogram made flat."""

    def equalize_channel(channel):
        histogram = tf.math.bincount(tf.cast(tf.reshape(channel, [-1]), tf.int32), minlength=256, maxlength=256)
        step = (tf.size(channel) - histogram[tf.reduce_max(tf.cast(channel, tf.int32))]) // 255
        table = (step // 2 + tf.cumsum(histogram, exclusive=True)) // tf.maximum(step, 1)
        table = tf.where(step > 0, tf.minimum(table, 255), tf.range(256))
        return tf.gather(tf.cast(table, tf.uint8), tf.cast(channel, tf.int32))

    return tf.stack([equalize_channel(image[..., channel]) for channel in range(3)], axis=-1)


def solarize(image: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """PIL.ImageOps.solarize: values from the threshold on are inverted."""
    return tf.where(tf.cast(image, tf.int32) < threshold, image, 255 - image)


def solarize_add(image: tf.Tensor, addition: tf.Tensor) -> tf.Tensor:
    """Values below the middle are raised."""
    raised = tf.cast(tf.minimum(tf.cast(image, tf.int32) + addition, 255), tf.uint8)
    return tf.where(image < SOLARIZE_ADD_THRESHOLD, raised, image)


def posterize(image: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """PIL.ImageOps.posterize: keeps this number of high bits."""
    mask = tf.bitwise.left_shift(255, 8 - bits)
    return tf.cast(tf.bitwise.bitwise_and(tf.cast(image, tf.int32), mask), tf.uint8)


def affine(image: tf.Tensor, matrix: list[float | tf.Tensor], fill: int = FILL) -> tf.Tensor:
    """PIL's `image.transform(size, AFFINE, matrix)`: pixel centre (x, y) is read at (ax + by + c, dx + ey + f)."""
    a, b, c, d, e, f = (tf.cast(value, tf.float32) for value in matrix)
    # TensorFlow counts from the first pixel's centre, PIL from its corner.
    transform = tf.stack([a, b, c + (a + b - 1) / 2, d, e, f + (d + e - 1) / 2, 0.0, 0.0])
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=transform[None],
        output_shape=tf.shape(image)[:2],
        fill_value=float(fill),
        interpolation='NEAREST',
        fill_mode='CONSTANT',
    )
    return tf.ensure_shape(moved[0], image.shape)


def rotate(image: tf.Tensor, degrees: tf.Tensor, fill: int = FILL) -> tf.Tensor:
    """PIL's `image.rotate(degrees)`: counter-clockwise about the centre."""
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float64) / 2)
    cos, sin = tf.cos(degrees * (math.pi / 180)), tf.sin(degrees * (math.pi / 180))
    x, y = width - cos * width + sin * height, height - sin * width - cos * height
    return affine(image, [cos, -sin, x, sin, cos, y], fill)


def _side(image: tf.Tensor, axis: int) -> tf.Tensor:
    return tf.cast(tf.shape(image)[axis], tf.float64)


def _truncated(value: tf.Tensor) -> tf.Tensor:
    return tf.cast(value, tf.int32)


# Name -> a function of an image, its strength in [0, 1], and the strength with a random sign.
OPERATIONS: dict[str, Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]] = {
    'AutoContrast': lambda image, strength, signed: autocontrast(image),
    'Equalize': lambda image, strength, signed: equalize(image),
    'Invert': lambda image, strength, signed: 255 - image,
    'Rotate': lambda image, strength, signed: rotate(image, 30 * signed),
    'Posterize': lambda image, strength, signed: posterize(image, _truncated(4 * strength)),
    'Solarize': lambda image, strength, signed: solarize(image, _truncated(256 * strength)),
    'SolarizeAdd': lambda image, strength, signed: solarize_add(image, _truncated(110 * strength)),
    'Color': lambda image, strength, signed: color(image, 0.1 + 1.8 * strength),
    'Contrast': lambda image, strength, signed: contrast(image, 0.1 + 1.8 * strength),
    'Brightness': lambda image, strength, signed: brightness(image, 0.1 + 1.8 * strength),
    'Sharpness': lambda image, strength, signed: sharpness(image, 0.1 + 1.8 * strength),
    'ShearX': lambda image, strength, signed: affine(image, [1, 0.3 * signed, 0, 0, 1, 0]),
    'ShearY': lambda image, strength, signed: affine(image, [1, 0, 0, 0.3 * signed, 1, 0]),
    'TranslateX': lambda image, strength, signed: affine(image, [1, 0, 0.45 * signed * _side(image, 1), 0, 1, 0]),
    'TranslateY': lambda image, strength, signed: affine(image, [1, 0, 0, 0, 1, 0.45 * signed * _side(image, 0)]),
}


MAGNITUDES = 31  # of each operation of TrivialAugment
_UP = np.linspace(0, 1, MAGNITUDES)
_NONE = np.zeros(MAGNITUDES)


class WideOperation(NamedTuple):
    """An operation of TrivialAugment.

    Attributes:
        magnitudes: float64 [MAGNITUDES]; an operation that has none ignores them.
        signed: whether half of them are negative.
        function: of an image and a magnitude.
    """

    magnitudes: np.ndarray
    signed: bool
    function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


# The space 'Wide' of the paper's Table 7, as torchvision has it.
WIDE_OPERATIONS = {
    'Identity': WideOperation(_NONE, False, lambda image, magnitude: image),
    'ShearX': WideOperation(0.99 * _UP, True, lambda image, shear: affine(image, [1, shear, 0, 0, 1, 0], fill=0)),
    'ShearY': WideOperation(0.99 * _UP, True, lambda image, shear: affine(image, [1, 0, 0, shear, 1, 0], fill=0)),
    'TranslateX': WideOperation(
        32 * _UP, True, lambda image, pixels: affine(image, [1, 0, -_truncated(pixels), 0, 1, 0], fill=0)
    ),
    'TranslateY': WideOperation(
        32 * _UP, True, lambda image, pixels: affine(image, [1, 0, 0, 0, 1, -_truncated(pixels)], fill=0)
    ),
    'Rotate': WideOperation(135 * _UP, True, lambda image, degrees: rotate(image, degrees, fill=0)),
    'Brightness': WideOperation(0.99 * _UP, True, lambda image, amount: brightness(image, 1 + amount)),
    'Color': WideOperation(0.99 * _UP, True, lambda image, amount: color(image, 1 + amount)),
    'Contrast': WideOperation(0.99 * _UP, True, lambda image, amount: contrast(image, 1 + amount)),
    'Sharpness': WideOperation(0.99 * _UP, True, lambda image, amount: sharpness(image, 1 + amount)),
    'Posterize': WideOperation(
        8 - np.round(6 * _UP), False, lambda image, bits: posterize(image, tf.cast(bits, tf.int32))
    ),
    # Integers from the threshold on are those from the next integer on.
    'Solarize': WideOperation(
        np.ceil(255 * _UP[::-1]), False, lambda image, threshold: solarize(image, tf.cast(threshold, tf.int32))
    ),
    'AutoContrast': WideOperation(_NONE, False, lambda image, magnitude: autocontrast(image)),
    'Equalize': WideOperation(_NONE, False, lambda image, magnitude: equalize(image)),
}
