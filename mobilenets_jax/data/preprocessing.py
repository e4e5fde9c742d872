"""From the bytes of an image file to uint8 pixels, as TensorFlow operations for one example at a time.

Paper: the MobileNets are trained with "Inception preprocessing", which the papers cite but do not spell out.
Reference: tensorflow/models at 001a5ed, research/slim/preprocessing/inception_preprocessing.py; for `resize_crop`
    torchvision's `Resize` and `CenterCrop`, for `random_resized_box` its `RandomResizedCrop`, on PIL images.
Differs:
    Random operations are stateless, seeded by the example.
    The training image is rounded to uint8, so that a quarter of the bytes go to the device, which normalises it.
    JPEGs are decoded by the faster of libjpeg's ways, but as PIL does for evaluation and `random_resized`.
    Other formats than JPEG and PNG are read, by PIL.
    With full colour distortion slim also draws one of four resize methods; here the resize is always bilinear.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from mobilenets_jax.data import image_files
from mobilenets_jax.data.auto_augment import auto_augment
from mobilenets_jax.data.options import ImageOptions
from mobilenets_jax.image_size import ImageSize, height_and_width

# tf.image.sample_distorted_bounding_box, as slim calls it for the whole image as the one box.
MIN_OBJECT_COVERED = 0.1
ASPECT_RATIO_RANGE = (0.75, 1.33)  # width / height
MAX_CROP_ATTEMPTS = 100  # Then the whole image is taken.
PURPOSES = ('crop', 'flip', 'color', 'auto_augment', 'scale')  # of an example's seed
# How JPEGs are decoded: with a difference of a level or two from PIL's pixels, or exactly as PIL does.
FAST, EXACT = {'dct_method': 'INTEGER_FAST'}, {'dct_method': 'INTEGER_ACCURATE'}

# Up to how many times as many pixels as the result has it pays to convert an image to float before it is resized.
MAX_CONVERTED = 2

# Up to how many times as many pixels as a crop has an image is resized as a whole, before the crop is cut out.
MAX_RESIZED = 8
# TensorFlow's name of an antialiased interpolation, and the radius of its kernel in pixels of the larger image.
KERNELS = {'bilinear': ('triangle', 1.0), 'bicubic': ('keyscubic', 2.0)}

# torchvision's RandomResizedCrop.
RESIZED_ASPECT_RATIO_RANGE = (3 / 4, 4 / 3)  # width / height
RESIZED_CROP_ATTEMPTS = 10  # Then the centre is taken.

_DISTORTIONS = {
    'brightness': lambda image, seed: tf.image.stateless_random_brightness(image, 32 / 255, seed),
    'saturation': lambda image, seed: tf.image.stateless_random_saturation(image, 0.5, 1.5, seed),
    'hue': lambda image, seed: tf.image.stateless_random_hue(image, 0.2, seed),
    'contrast': lambda image, seed: tf.image.stateless_random_contrast(image, 0.5, 1.5, seed),
}
# The distortions do not commute; slim draws one of four orderings; three of them are the same in fast mode.
COLOR_ORDERINGS = {
    'fast': (('brightness', 'saturation'), *[('saturation', 'brightness')] * 3),
    'full': (
        ('brightness', 'saturation', 'hue', 'contrast'),
        ('saturation', 'brightness', 'contrast', 'hue'),
        ('contrast', 'hue', 'brightness', 'saturation'),
        ('hue', 'saturation', 'contrast', 'brightness'),
    ),
}


def example_seed(seed: int, epoch: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """The int64 [2] seed of all random choices for one example in one epoch; every choice adds its own `PURPOSES`.

    The stateless operations scramble their seed themselves, so that neighbouring seeds draw nothing alike.
    """
    first = seed * 2**32 + tf.cast(epoch, tf.int64)
    return tf.stack([first, tf.cast(index, tf.int64)])


def purpose_seed(seed: tf.Tensor, purpose: str) -> tf.Tensor:
    """The seed of one kind of choice about an example."""
    return seed + tf.constant([0, (1 + PURPOSES.index(purpose)) * 2**32], tf.int64)


def train_image(encoded: tf.Tensor, seed: tf.Tensor, options: ImageOptions) -> tf.Tensor:
    """A randomly distorted image, uint8 [image_size, image_size, 3], from a file's bytes and an example's seed.

    As slim's `preprocess_for_train`: crop, resize that does not keep the aspect, flip, colour distortion in [0, 1],
    clip; and then, as torchvision and timm do, AutoAugment, RandAugment or TrivialAugment.
    """
    image = _random_view(encoded, purpose_seed(seed, 'crop'), options)
    if options.color_distortion != 'none':
        image = distort_color(image / 255, purpose_seed(seed, 'color'), options.color_distortion) * 255
    image = round_to_uint8(image)
    if options.random_flip:  # of uint8, whose quarter of the bytes is quicker to move
        chance = tf.random.stateless_uniform([], purpose_seed(seed, 'flip'))
        image = tf.cond(chance < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
    image = tf.ensure_shape(image, [options.image_size, options.image_size, 3])
    return auto_augment(image, purpose_seed(seed, 'auto_augment'), options)


def _random_view(encoded: tf.Tensor, seed: tf.Tensor, options: ImageOptions) -> tf.Tensor:
    """The random crop of an image, resized to float32 [image_size, image_size, 3] in [0, 255]."""
    size = options.image_size
    if options.train_crop == 'inception':
        draw = functools.partial(inception_box, seed=seed, min_area_fraction=options.min_area_fraction)
        return resize_bilinear(decode_crop(encoded, draw, FAST), size)
    if options.train_crop == 'random_resized':
        draw = functools.partial(random_resized_box, seed=seed, min_area_fraction=options.min_area_fraction)
        whole = tf.constant([size, size], tf.int64)
        return resize_antialiased(decode_crop(encoded, draw, EXACT), whole, 'bilinear', tf.zeros_like(whole), whole)
    return resize_bilinear(decode(encoded, **FAST), size)


def eval_image(encoded: tf.Tensor, options: ImageOptions) -> tf.Tensor:
    """The evaluation view of an image, uint8 [image_size, image_size, 3], from a file's bytes."""
    image = decode(encoded, **EXACT)
    if options.eval_crop == 'central_fraction':
        return _to_uint8(central_fraction(image, options.image_size, options.crop_fraction))
    rounded = options.eval_crop == 'rounded_resize_crop'
    return _to_uint8(resize_crop(image, options.image_size, options.crop_fraction, options.interpolation, rounded))


def decode(encoded: tf.Tensor, **settings: Any) -> tf.Tensor:
    """Decodes an image file, whatever it is called, to uint8 [H, W, 3]; see `image_files`.

    TensorFlow decodes JPEG (also grey or CMYK) and PNG. PIL decodes all other formats, and the files that TensorFlow
    may not decode.
    """
    return tf.cond(
        _is_jpeg(encoded) | is_png(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels=3, **settings),  # Its kernel looks at the bytes.
        lambda: _decode_by_pil(encoded),
    )


def decode_crop(
    encoded: tf.Tensor, draw_box: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]], settings: Mapping[str, Any]
) -> tf.Tensor:
    """A crop, uint8 [h, w, 3], of a file's image; of a JPEG only the crop is decoded.

    Args:
        encoded: the file's bytes.
        draw_box: maps the image's shape, int32 [3], to begin and size of the crop, int32 [3].
        settings: of the decoder, such as `FAST`.
    """

    def from_jpeg():
        begin, size = draw_box(tf.io.extract_jpeg_shape(encoded))
        return tf.io.decode_and_crop_jpeg(encoded, tf.concat([begin[:2], size[:2]], axis=0), 3, **settings)

    def from_any():
        image = decode(encoded, **settings)
        return tf.slice(image, *draw_box(tf.shape(image)))

    return tf.cond(_is_jpeg(encoded), from_jpeg, from_any)


def _is_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Whether it is a JPEG that is not too large."""
    return tf.cond(
        tf.io.is_jpeg(encoded), lambda: _is_small_enough(tf.io.extract_jpeg_shape(encoded)[:2]), lambda: False
    )


def is_png(encoded: tf.Tensor) -> tf.Tensor:
    """Whether it is a PNG that is not too large."""
    head = tf.strings.substr(encoded, 0, 24) + bytes(24)  # signature, length and kind of the first chunk, width, height
    is_png = tf.strings.substr(head, 0, 8) == image_files.PNG_SIGNATURE
    return is_png & _is_small_enough(tf.io.decode_raw(tf.strings.substr(head, 16, 8), tf.int32, little_endian=False))


def _is_small_enough(sides: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(tf.cast(sides, tf.int64)) <= image_files.MAX_PIXELS


def _decode_by_pil(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes what TensorFlow does not, or says why it is no image: uint8 [H, W, 3]."""

    def read(content: bytes | np.ndarray) -> np.ndarray:  # an array of one object where the caller is not compiled
        return image_files.decode(np.asarray(content, object).item())

    return tf.ensure_shape(tf.numpy_function(read, [encoded], tf.uint8), [None, None, 3])


def inception_box(shape: tf.Tensor, seed: tf.Tensor, min_area_fraction: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws a crop of an image of `shape` (height, width, channels): begin and size, int32 [3], as for `tf.slice`.

    Its area is between `min_area_fraction` and all of the image's, its width / height in `ASPECT_RATIO_RANGE`.
    """
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seed,
        min_object_covered=MIN_OBJECT_COVERED,
        aspect_ratio_range=ASPECT_RATIO_RANGE,
        area_range=(min_area_fraction, 1.0),
        max_attempts=MAX_CROP_ATTEMPTS,
    )
    return begin, size


def random_resized_box(shape: tf.Tensor, seed: tf.Tensor, min_area_fraction: float) -> tuple[tf.Tensor, tf.Tensor]:
    """As `inception_box`, by the rule of torchvision's `RandomResizedCrop.get_params`."""
    area_seed, aspect_seed, place_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    sides = tf.cast(shape[:2], tf.float32)
    attempts = [RESIZED_CROP_ATTEMPTS]
    area = tf.reduce_prod(sides) * tf.random.stateless_uniform(attempts, area_seed, min_area_fraction, 1.0)
    low, high = (math.log(ratio) for ratio in RESIZED_ASPECT_RATIO_RANGE)
    aspect = tf.exp(tf.random.stateless_uniform(attempts, aspect_seed, low, high))
    drawn = tf.round(tf.sqrt(tf.stack([area / aspect, area * aspect], axis=-1)))  # [attempts, 2]: height, width
    fits = tf.reduce_all((drawn > 0) & (drawn <= sides), axis=-1)
    place = tf.random.stateless_uniform([2], place_seed)
    size = drawn[tf.argmax(fits)]
    begin = tf.floor(place * (sides - size + 1))
    central = tf.round(
        tf.minimum(sides, sides[::-1] * [1 / RESIZED_ASPECT_RATIO_RANGE[0], RESIZED_ASPECT_RATIO_RANGE[1]])
    )
    found = tf.reduce_any(fits)
    size = tf.where(found, size, central)
    begin = tf.where(found, begin, tf.floor((sides - central) / 2))
    return tf.pad(tf.cast(begin, tf.int32), [[0, 1]]), tf.concat([tf.cast(size, tf.int32), [3]], axis=0)


def distort_color(image: tf.Tensor, seed: tf.Tensor, color_distortion: str) -> tf.Tensor:
    """Distorts the colours of an image [H, W, 3] in [0, 1], in one of the orderings of `COLOR_ORDERINGS`.

    Brightness is shifted by at most 32 / 255, saturation and contrast are multiplied by 0.5 to 1.5, hue is turned by at
    most 0.2 of the circle. The result is clipped to [0, 1] at the end only.
    """
    orderings = COLOR_ORDERINGS[color_distortion]
    choice_seed, *seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 1 + len(_DISTORTIONS)))
    seed_of = dict(zip(_DISTORTIONS, seeds, strict=True))

    def apply(ordering):
        return functools.reduce(lambda distorted, name: _DISTORTIONS[name](distorted, seed_of[name]), ordering, image)

    choice = tf.random.stateless_uniform([], choice_seed, 0, len(orderings), tf.int32)
    distorted = tf.switch_case(choice, [functools.partial(apply, ordering) for ordering in orderings])
    return tf.clip_by_value(distorted, 0.0, 1.0)


def central_fraction(image: tf.Tensor, image_size: int, crop_fraction: float) -> tf.Tensor:
    """The TF evaluation crop: the central part of each side, resized without keeping the aspect; float32 [S, S, 3].

    As `tf.image.central_crop`, which however rounds otherwise, by a pixel, when it does not know the image's shape.
    """
    shape = tf.shape(image)[:2]
    sides = tf.cast(shape, tf.float64)
    top, left = tf.unstack(tf.cast((sides - sides * crop_fraction) / 2, tf.int32))
    return resize_bilinear(image[top : shape[0] - top, left : shape[1] - left], image_size)


def resize_crop(
    image: tf.Tensor, image_size: int, crop_fraction: float, interpolation: str, rounded: bool = False
) -> tf.Tensor:
    """The short side resized to round(image_size / crop_fraction) pixels, the centre cut out; float32 [S, S, 3].

    The aspect is kept and the resize antialiased, as in PIL. The long side and the crop's offset are rounded as
    torchvision does (down; half to even), or as big_vision does if `rounded` (half to even; down). One pixel moves the
    top-1 of a small network by a percent.
    """
    sides = tf.cast(tf.shape(image)[:2], tf.int64)
    short = round(image_size / crop_fraction)
    if rounded:
        scaled = tf.cast(short * sides, tf.float64) / tf.cast(tf.reduce_min(sides), tf.float64)
        resized = tf.cast(tf.round(scaled), tf.int64)
        begin = (resized - image_size) // 2
    else:
        resized = short * sides // tf.reduce_min(sides)
        begin = tf.cast(tf.round((resized - image_size) / 2), tf.int64)
    return resize_antialiased(image, resized, interpolation, begin, tf.constant([image_size, image_size], tf.int64))


def resize_antialiased(
    image: tf.Tensor, size: tf.Tensor, interpolation: str, begin: tf.Tensor, window: tf.Tensor
) -> tf.Tensor:
    """A window of an image resized as PIL does: whole numbers in [0, 255], float32 [*window, 3].

    Args:
        image: uint8 [H, W, 3].
        size: height and width of the whole resized image; here and below int64 [2].
        interpolation: one of `options.INTERPOLATIONS`.
        begin: top and left of the window in the resized image.
        window: its height and width.
    """
    # A line of 6000x1 pixels becomes 400 million, of which a crop shows few. An ordinary photo is resized as a whole,
    # since another origin of the coordinates rounds otherwise.
    is_ordinary = tf.reduce_prod(size) <= MAX_RESIZED * tf.reduce_prod(window)
    start = tf.where(is_ordinary, tf.zeros_like(begin), begin)
    count = tf.where(is_ordinary, size, window)
    resized = _resize_window(image, size, interpolation, start, count)
    return tf.slice(resized, tf.pad(begin - start, [[0, 1]]), tf.pad(window, [[0, 1]], constant_values=3))


def _resize_window(
    image: tf.Tensor, size: tf.Tensor, interpolation: str, begin: tf.Tensor, window: tf.Tensor
) -> tf.Tensor:
    """What `resize_antialiased` says, from those pixels alone that the window needs."""
    kernel, radius = KERNELS[interpolation]
    sides = tf.cast(tf.shape(image)[:2], tf.int64)
    scale = tf.cast(size, tf.float64) / tf.cast(sides, tf.float64)
    # How far the kernel reaches, in pixels of `image`.
    reach = tf.cast(tf.math.ceil(radius * tf.maximum(1 / scale, 1)), tf.int64) + 1
    first = tf.maximum(tf.cast(tf.cast(begin, tf.float64) / scale, tf.int64) - reach, 0)
    end = tf.minimum(tf.cast(tf.cast(begin + window, tf.float64) / scale, tf.int64) + reach + 1, sides)
    image = tf.expand_dims(image[first[0] : end[0], first[1] : end[1]], 0)
    shift = tf.cast(tf.cast(first, tf.float64) * scale - tf.cast(begin, tf.float64), tf.float32)
    scale = tf.cast(size, tf.float32) / tf.cast(sides, tf.float32)
    # PIL resizes the rows, rounds, then resizes the columns (up to version 12; 13 does what is less work first).
    for height, is_resized in ((end[0] - first[0], [False, True]), (window[0], [True, False])):
        resized = tf.raw_ops.ScaleAndTranslate(
            images=image,
            size=tf.cast(tf.stack([height, window[1]]), tf.int32),
            scale=tf.where(is_resized, scale, 1.0),
            translation=tf.where(is_resized, shift, 0.0),
            kernel_type=kernel,
            antialias=True,
        )
        image = tf.cast(_to_uint8(resized), tf.float32)
    return tf.squeeze(image, 0)


def resize_bilinear(image: tf.Tensor, image_size: ImageSize, *, half_pixel: bool = False) -> tf.Tensor:
    """Resizes [H, W, 3] to float32 [height, width, 3] of `image_size`, without antialiasing.

    Output pixel i is read at i * H / image_size, on TensorFlow 1's grid, in which the released MobileNet checkpoints
    were trained and evaluated; or if `half_pixel` at the centres of TensorFlow 2's `tf.image.resize` and PyTorch.
    """
    size = height_and_width(image_size)

    def resize(pixels):
        resized = tf.raw_ops.ResizeBilinear(images=tf.expand_dims(pixels, 0), size=size, half_pixel_centers=half_pixel)
        return tf.squeeze(resized, 0)

    # The kernel takes half the time on floats, and its result is the same; but all pixels are converted, even of images
    # so large that most of them are skipped.
    is_small = tf.size(image) <= MAX_CONVERTED * 3 * size[0] * size[1]
    return tf.cond(is_small, lambda: resize(tf.cast(image, tf.float32)), lambda: resize(image))


def pad_with(image: tf.Tensor, paddings: tf.Tensor, pixel: tuple[int, int, int]) -> tf.Tensor:
    """An image, uint8 [h, w, 3], padded by an RGB pixel: [2, 2] has the rows and columns before and after it."""
    pixel = tf.constant(pixel, tf.uint8)
    # uint8 wraps around, so that every pixel comes back as it was.
    return tf.pad(image - pixel, tf.concat([paddings, [[0, 0]]], axis=0)) + pixel


def _to_uint8(image: tf.Tensor) -> tf.Tensor:
    return tf.saturate_cast(tf.round(image), tf.uint8)  # bicubic interpolation can leave [0, 255]


def round_to_uint8(image: tf.Tensor) -> tf.Tensor:
    """Rounds values in [0, 255], halves up, in one pass over the image; to add 0.5 and to cast are two."""
    quantized = tf.raw_ops.QuantizeV2(
        input=image,
        min_range=0.0,
        max_range=255.0,
        T=tf.quint8,
        mode='MIN_COMBINED',
        round_mode='HALF_AWAY_FROM_ZERO',
    )
    return tf.bitcast(quantized.output, tf.uint8)
