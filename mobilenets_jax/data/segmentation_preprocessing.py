"""Images and their masks, decoded, scaled, cropped and mirrored together: TensorFlow operations for one example.

The image is interpolated, its mask never: each pixel of it takes the class of the nearest one.

Reference: tensorflow/models, research/deeplab/input_preprocess.py and core/preprocess_utils.py; torchvision at 14bdad7,
    references/segmentation/transforms.py (RandomResize, RandomHorizontalFlip, RandomCrop), on PIL images.
Differs:
    Random operations are stateless, seeded by the example.
    Only that part of the scaled image is computed that is cropped out.
    Images are rounded to uint8, as is the mean pixel that they are padded with (127.5 becomes 128).
"""

import numpy as np
import tensorflow as tf

from mobilenets_jax.data.class_sets import IGNORED, UNKNOWN, VALUES
from mobilenets_jax.data.mask_files import BITS_BYTE, GREY, TYPE_BYTE, read_mask
from mobilenets_jax.data.photometric import photometric_distort
from mobilenets_jax.data.preprocessing import is_png, pad_with, purpose_seed, resize_antialiased, round_to_uint8
from mobilenets_jax.data.segmentation_options import SegmentationOptions, Sides

BLACK = (0, 0, 0)  # what torchvision pads with


def decode_mask(encoded: tf.Tensor, table: np.ndarray) -> tf.Tensor:
    """The train ids of a mask file, uint8 [H, W]; fails if a value is unknown.

    Args:
        encoded: the file's bytes, a PNG; see `mask_files`.
        table: value to train id, see `ClassSet.train_ids`.
    """
    head = tf.io.decode_raw(tf.strings.substr(encoded + bytes(TYPE_BYTE + 1), 0, TYPE_BYTE + 1), tf.uint8)
    is_plain = is_png(encoded) & (head[BITS_BYTE] == 8) & (head[TYPE_BYTE] == GREY)
    # TensorFlow turns palettes into colours, and stretches grey of fewer bits.
    values = tf.cond(
        is_plain, lambda: tf.cast(tf.io.decode_png(encoded, channels=1)[..., 0], tf.int32), lambda: _by_pil(encoded)
    )
    ids = tf.gather(tf.constant([*table, UNKNOWN], tf.int32), tf.minimum(values, VALUES))
    unknown = tf.reduce_max(tf.where(ids == UNKNOWN, values, -1))
    known = tf.debugging.Assert(unknown < 0, ['its mask has the value', unknown, 'which is no class'])
    with tf.control_dependencies([known]):
        return tf.cast(ids, tf.uint8)


def _by_pil(encoded: tf.Tensor) -> tf.Tensor:
    def read(content: bytes | np.ndarray) -> np.ndarray:  # an array of one object where the caller is not compiled
        return read_mask(np.asarray(content, object).item())

    return tf.ensure_shape(tf.numpy_function(read, [encoded], tf.int32), [None, None])


def train_view(
    image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor, options: SegmentationOptions
) -> tuple[tf.Tensor, tf.Tensor]:
    """A randomly scaled, cropped and mirrored view of an image and its mask.

    Args:
        image: uint8 [H, W, 3].
        mask: uint8 [H, W].
        seed: of the example, int64 [2].
        options: the crop's size and how it is drawn.

    Returns:
        uint8 [h, w, 3] and [h, w] of `options.image_size`; pixels beyond the scaled image are `IGNORED`.
    """
    chance = tf.random.stateless_uniform([], purpose_seed(seed, 'flip'))
    flipped = (chance < 0.5) & options.random_flip
    deeplab = options.augmentation == 'deeplab'
    image, mask = (_deeplab_view if deeplab else _torchvision_view)(image, mask, seed, options)
    if options.color_distortion == 'photometric':
        image = round_to_uint8(photometric_distort(tf.cast(image, tf.float32), purpose_seed(seed, 'color')))
    if deeplab:  # pads, then mirrors
        return mirror(*pad(image, mask, options.image_size, options.mean_pixel), flipped)
    return pad(*mirror(image, mask, flipped), options.image_size, BLACK)


def _deeplab_view(
    image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor, options: SegmentationOptions
) -> tuple[tf.Tensor, tf.Tensor]:
    """Both sides scaled by a random factor, corners on corners; at most `options.image_size` of it."""
    sides = tf.shape(mask)
    size = tf.cast(tf.cast(sides, tf.float32) * random_scale(purpose_seed(seed, 'scale'), options), tf.int32)
    size = tf.maximum(size, 1)
    begin, window = random_window(size, purpose_seed(seed, 'crop'), options.image_size)
    steps = (sides - 1) / tf.maximum(size - 1, 1)  # float64 [2]: from pixel to pixel, in pixels of the image
    rows, columns = (tf.cast(tf.range(window[axis]) + begin[axis], tf.float64) * steps[axis] for axis in range(2))
    nearest = (tf.cast(tf.floor(positions + 0.5), tf.int32) for positions in (rows, columns))
    return round_to_uint8(interpolate(image, rows, columns)), take(mask, *nearest)


def _torchvision_view(
    image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor, options: SegmentationOptions
) -> tuple[tf.Tensor, tf.Tensor]:
    """The short side of random length, antialiased as by PIL; at most `options.image_size` of it."""
    low, high = (int(options.base_size * scale) for scale in (options.min_scale, options.max_scale))
    short = tf.random.stateless_uniform([], purpose_seed(seed, 'scale'), low, high + 1, tf.int64)
    sides = tf.shape(mask, tf.int64)
    size = tf.maximum(short * sides // tf.reduce_min(sides), 1)
    begin, window = random_window(size, purpose_seed(seed, 'crop'), options.image_size)
    nearest = (
        tf.cast(
            (tf.cast(tf.range(window[axis]) + begin[axis], tf.float64) + 0.5) * (sides[axis] / size[axis]), tf.int32
        )
        for axis in range(2)
    )
    return tf.cast(resize_antialiased(image, size, 'bilinear', begin, window), tf.uint8), take(mask, *nearest)


def random_scale(seed: tf.Tensor, options: SegmentationOptions) -> tf.Tensor:
    """Deeplab's factor, float32 []: one of those with the distance `scale_step`, or any if that is 0."""
    low, high, step = options.min_scale, options.max_scale, options.scale_step
    if not step:
        return tf.random.stateless_uniform([], seed, low, high)
    factors = np.linspace(low, high, int((high - low) / step + 1))
    return tf.constant(factors, tf.float32)[tf.random.stateless_uniform([], seed, 0, len(factors), tf.int32)]


def random_window(size: tf.Tensor, seed: tf.Tensor, crop: Sides) -> tuple[tf.Tensor, tf.Tensor]:
    """Begin and sides of a crop, no larger than an image of `size`, and of its dtype, [2]."""
    window = tf.minimum(size, tf.constant(crop, size.dtype))
    slack = tf.cast(size - window, tf.float32)
    begin = tf.cast(tf.random.stateless_uniform([2], seed) * (slack + 1), size.dtype)
    return tf.minimum(begin, size - window), window


def interpolate(image: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """An image [H, W, 3] read bilinearly at rows [h] and columns [w], float64 within it: float32 [h, w, 3]."""
    begin, end = (tf.cast(tf.stack([rows[i], columns[i]]), tf.int32) for i in (0, -1))
    image = image[begin[0] : end[0] + 2, begin[1] : end[1] + 2]  # the part that is needed
    for axis, positions in enumerate((rows, columns)):
        positions -= tf.cast(begin[axis], tf.float64)
        first = tf.cast(tf.floor(positions), tf.int32)
        second = tf.minimum(first + 1, tf.shape(image)[axis] - 1)
        shape = [-1, 1, 1] if axis == 0 else [1, -1, 1]
        share = tf.reshape(tf.cast(positions - tf.floor(positions), tf.float32), shape)
        near, far = (tf.cast(tf.gather(image, index, axis=axis), tf.float32) for index in (first, second))
        image = near + (far - near) * share
    return image


def take(mask: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """The pixels [h, w] of a mask at rows [h] and columns [w], int32."""
    rows, columns = (tf.minimum(index, tf.shape(mask)[axis] - 1) for axis, index in enumerate((rows, columns)))
    return tf.gather(tf.gather(mask, rows), columns, axis=1)


def mirror(image: tf.Tensor, mask: tf.Tensor, flipped: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Both mirrored left to right if `flipped`."""
    return tf.cond(flipped, lambda: (tf.reverse(image, [1]), tf.reverse(mask, [1])), lambda: (image, mask))


def pad(image: tf.Tensor, mask: tf.Tensor, size: Sides, pixel: tuple[int, int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Both padded as by `pad_image` and `pad_mask`."""
    return pad_image(image, size, pixel), pad_mask(mask, size)


def pad_image(image: tf.Tensor, size: Sides, pixel: tuple[int, int, int]) -> tf.Tensor:
    """An image, uint8 [h, w, 3], padded to `size` at the bottom and on the right by an RGB pixel in 0 .. 255."""
    return tf.ensure_shape(pad_with(image, _missing(image, size), pixel), [*size, 3])


def pad_mask(mask: tf.Tensor, size: Sides) -> tf.Tensor:
    """A mask, uint8 [h, w], padded to `size` in the same way by `IGNORED`."""
    return tf.ensure_shape(tf.pad(mask, _missing(mask, size), constant_values=tf.constant(IGNORED, tf.uint8)), size)


def _missing(pixels: tf.Tensor, size: Sides) -> tf.Tensor:
    """The paddings of height and width, int32 [2, 2]."""
    return tf.stack([[0, side - tf.shape(pixels)[axis]] for axis, side in enumerate(size)])


def fit_into(image: tf.Tensor, long_side: int, mask_size: Sides) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """An image resized like PIL with `long_side` pixels on its long side, and the positions of the mask's pixels in it.

    Args:
        image: uint8 [h, w, 3].
        long_side: of the result, in pixels.
        mask_size: height and width of the padded mask.

    Returns:
        The image, uint8, and 'rows' int32 [H] and 'columns' int32 [W]: the nearest ones of each row and column of the
        mask; the last one after its end.
    """
    sides = tf.shape(image, tf.int64)[:2]
    size = tf.round(tf.cast(sides * long_side, tf.float64) / tf.cast(tf.reduce_max(sides), tf.float64))
    size = tf.maximum(tf.cast(size, tf.int64), 1)
    resized = resize_antialiased(image, size, 'bilinear', tf.zeros_like(size), size)
    places = {}
    for axis, name in enumerate(('rows', 'columns')):
        centres = tf.range(mask_size[axis], dtype=tf.float64) + 0.5
        nearest = tf.cast(centres * (size[axis] / sides[axis]), tf.int32)
        places[name] = tf.minimum(nearest, tf.cast(size[axis], tf.int32) - 1)
    return tf.cast(resized, tf.uint8), places
