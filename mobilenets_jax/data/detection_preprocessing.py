"""Images and their boxes, cropped, resized and mirrored together: TensorFlow operations for one example.

Every augmentation draws a *window* of the image, int32 [top, left, height, width] in its pixels, and says which boxes
stay. A window may reach beyond the image; what is there has the mean colour. Colours are distorted before that.

    none         the whole image
    tf           one of seven crops, each with its own least cover of an object, or (15 %) the whole image
    torchvision  RandomIoUCrop: a crop that overlaps with a box by a drawn IoU, or the whole image
    mobilenext   the image on a canvas up to four times as wide, and a crop of it much as in torchvision

Paper: 1512.02325 section 2.2.
Reference: tensorflow/models, research/object_detection/core/preprocessor.py `ssd_random_crop`; torchvision 0.28,
    transforms/v2 `RandomIoUCrop`; houqb/ssdlite-pytorch-mobilenext at 6219e33, ssd/data/transforms/transforms.py.
Differs:
    Random operations are stateless, seeded by the example.
    Boxes are dropped if less than a pixel of their height or width is left, as in torchvision's
    `SanitizeBoundingBoxes`; TensorFlow keeps them.
    Images are rounded to uint8, and so are clipped to 0 .. 255 after the distortion of colours.
"""

from typing import NamedTuple

import tensorflow as tf

from mobilenets_jax.data import preprocessing
from mobilenets_jax.data.box_checks import LEAST_PIXELS
from mobilenets_jax.data.detection_options import DetectionOptions
from mobilenets_jax.data.example_format import Target
from mobilenets_jax.data.photometric import photometric_distort
from mobilenets_jax.data.preprocessing import purpose_seed, resize_bilinear, round_to_uint8

# ssd_random_crop: of each option the part of a box that the crop covers at the least, both of the one that it is drawn
# for and of every one that stays.
TF_COVERED = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
TF_WHOLE = 0.15  # probability of the whole image
TF_ATTEMPTS = 100
ASPECT_RATIOS = (0.5, 2.0)  # width / height, of all crops
TF_AREAS = (0.1, 1.0)

SIDES = (0.3, 1.0)  # of the crops drawn by IoU, in parts of the image's
# An option whose attempts all fail is drawn again. So many rounds end without the whole image once in 10,000 times, and
# then only if no crop fits; the result is the whole image.
ROUNDS = 60

MAX_EXPANSION = 4.0
CHANNEL_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


class IouCrop(NamedTuple):
    """How crops are drawn by their overlap with a box.

    Attributes:
        options: the least IoU with a box, one of which is drawn; `WHOLE` is the whole image.
        attempts: for each.
        centred: whether that box must have its centre in the crop.
    """

    options: tuple[float, ...]
    attempts: int
    centred: bool


WHOLE = 1.0
TORCHVISION = IouCrop((0.0, 0.1, 0.3, 0.5, 0.7, 0.9, WHOLE), 40, centred=True)
MOBILENEXT = IouCrop((WHOLE, 0.1, 0.3, 0.7, 0.9, 0.0), 50, centred=False)

# A window, and which boxes stay, bool [n].
Drawn = tuple[tf.Tensor, tf.Tensor]


def train_view(
    encoded: tf.Tensor, target: Target, seed: tf.Tensor, options: DetectionOptions
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """A random view of an image and the boxes in it.

    Args:
        encoded: the bytes of an image file.
        target: of `DetectionFormat`.
        seed: of the example, int64 [2].
        options: the size of the result, and how it is drawn.

    Returns:
        The image, uint8 [H, W, 3]; its boxes, float32 [k, 4] in parts of it; their labels, int32 [k].
    """
    settings = preprocessing.EXACT if options.augmentation == 'torchvision' else preprocessing.FAST
    image = preprocessing.decode(encoded, **settings)
    size = checked_size(tf.shape(image)[:2], target)
    boxes, labels = target['boxes'], target['labels']
    window, stays = draw_window(size, boxes, seed, options.augmentation)
    boxes, labels = cut(boxes[stays], labels[stays], size, window)
    image, paddings = take_window(image, window)
    if options.color_distortion != 'none':
        image = distort_color(image, purpose_seed(seed, 'color'), shuffled=options.color_distortion == 'mobilenext')
    image = resize(preprocessing.pad_with(image, paddings, options.common().mean_pixel), options)
    if options.random_flip:
        flipped = tf.random.stateless_uniform([], purpose_seed(seed, 'flip')) < 0.5
        image = tf.cond(flipped, lambda: tf.reverse(image, [1]), lambda: image)
        boxes = tf.cond(flipped, lambda: mirror(boxes), lambda: boxes)
    return image, boxes, labels


def checked_size(size: tf.Tensor, target: Target) -> tf.Tensor:
    """Height and width of an image, int32 [2]; fails unless they are those of the target."""
    if 'size' not in target:
        return size
    message = ['its height and width are', size, 'but those of its annotations', target['size']]
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(size == target['size']), message)]):
        return tf.identity(size)


def resize(image: tf.Tensor, options: DetectionOptions) -> tf.Tensor:
    """An image, uint8 [h, w, 3], as uint8 of `options.image_size`."""
    half_pixel = options.resize == 'half_pixel'
    resized = round_to_uint8(resize_bilinear(image, options.image_size, half_pixel=half_pixel))
    return tf.ensure_shape(resized, [*options.image_size, 3])


def draw_window(size: tf.Tensor, boxes: tf.Tensor, seed: tf.Tensor, augmentation: str) -> Drawn:
    """Draws a window of an image, and says which of its boxes stay.

    Args:
        size: height and width, int32 [2].
        boxes: float32 [n, 4], in parts of the image.
        seed: of the example.
        augmentation: one of `detection_options.DETECTION_AUGMENTATIONS`.
    """
    crop_seed = purpose_seed(seed, 'crop')
    if augmentation == 'tf':
        return tf_crop(size, boxes, crop_seed)
    if augmentation == 'torchvision':
        return iou_crop(size, to_pixels(boxes, size), crop_seed, TORCHVISION)
    if augmentation == 'mobilenext':
        canvas = expand(size, purpose_seed(seed, 'scale'))
        placed = to_pixels(boxes, size) - tf.tile(tf.cast(canvas[:2], tf.float32), [2])
        window, stays = iou_crop(canvas[2:], placed, crop_seed, MOBILENEXT)
        return window + tf.pad(canvas[:2], [[0, 2]]), stays
    return whole(size), tf.ones_like(boxes[:, 0], bool)


def whole(size: tf.Tensor) -> tf.Tensor:
    """The window of a whole image."""
    return tf.pad(size, [[2, 0]])


def to_pixels(boxes: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Boxes in parts of an image of `size` in its pixels."""
    return boxes * tf.tile(tf.cast(size, tf.float32), [2])


def tf_crop(size: tf.Tensor, boxes: tf.Tensor, seed: tf.Tensor) -> Drawn:
    """As `ssd_random_crop`; boxes in parts of the image."""
    option_seed, whole_seed, crop_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    option = tf.random.stateless_uniform([], option_seed, 0, len(TF_COVERED), tf.int32)
    covered = tf.constant(TF_COVERED)[option]
    begin, sides, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([size, [3]], axis=0),
        bounding_boxes=boxes[:, tf.newaxis],
        seed=crop_seed,
        min_object_covered=covered,
        aspect_ratio_range=ASPECT_RATIOS,
        area_range=TF_AREAS,
        max_attempts=TF_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], sides[:2]], axis=0)
    keeps_all = tf.random.stateless_uniform([], whole_seed) <= TF_WHOLE
    window = tf.where(keeps_all, whole(size), window)
    pixels = to_pixels(boxes, size)
    return window, keeps_all | (_intersection(pixels, _corners(window)) >= covered * _area(pixels))


def iou_crop(size: tf.Tensor, boxes: tf.Tensor, seed: tf.Tensor, crop: IouCrop) -> Drawn:
    """As torchvision's `RandomIoUCrop`, by `crop`; boxes in pixels. Those with their centre in the crop stay."""

    def draw_again(number, *_):
        option_seed, crop_seed = tf.unstack(
            tf.random.experimental.stateless_split(tf.random.experimental.stateless_fold_in(seed, number), 2)
        )
        option = tf.random.stateless_uniform([], option_seed, 0, len(crop.options), tf.int32)
        least = tf.constant(crop.options)[option]
        windows = draw_crops(size, tf.random.stateless_uniform([crop.attempts, 4], crop_seed))
        fits, inside = fitting_crops(windows, boxes, least, crop.centred)
        first = tf.argmax(fits)  # the first one that fits
        is_whole = (least >= WHOLE) | ~tf.reduce_any(fits)
        found = (
            tf.where(is_whole, whole(size), windows[first]),
            tf.where(is_whole, tf.ones_like(inside[0]), inside[first]),
        )
        return number + 1, (least >= WHOLE) | tf.reduce_any(fits), *found

    start = (tf.constant(0), tf.constant(False), whole(size), tf.ones_like(boxes[:, 0], bool))
    _, _, window, stays = tf.while_loop(
        lambda number, found, *_: ~found & (tf.shape(boxes)[0] > 0), draw_again, start, maximum_iterations=ROUNDS
    )
    return window, stays


def draw_crops(size: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Crops of an image, int32 [k, 4], from draws in [0, 1), [k, 4]: of width, height, left and top."""
    low, high = SIDES
    size = tf.cast(size, tf.float32)
    sides = tf.floor(size * (low + (high - low) * draws[:, 1::-1]))  # height, width
    begin = tf.floor((size - sides) * draws[:, 3:1:-1])
    return tf.cast(tf.concat([begin, sides], axis=1), tf.int32)


def fitting_crops(windows: tf.Tensor, boxes: tf.Tensor, least: tf.Tensor, centred: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Which crops [k] may be taken, and which boxes have their centre in each, bool [k, n].

    Args:
        windows: int32 [k, 4].
        boxes: in pixels, float32 [n, 4].
        least: the least IoU with a box.
        centred: whether that box must have its centre in the crop.
    """
    crops = _corners(windows)[:, tf.newaxis]  # [k, 1, 4]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = tf.reduce_all((crops[..., :2] < centres) & (centres < crops[..., 2:]), axis=-1)
    common = _intersection(boxes, crops)
    iou = common / (_area(boxes) + _area(crops) - common)
    overlaps = tf.reduce_any((iou >= least) & (inside | (not centred)), axis=1)
    height, width = tf.unstack(tf.cast(windows[:, 2:], tf.float32), axis=1)
    low, high = ASPECT_RATIOS
    shaped = (width >= low * height) & (width <= high * height) & (height > 0)
    return shaped & overlaps & tf.reduce_any(inside, axis=1), inside


def expand(size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """MobileNeXt's canvas, as a window around an image; half of the time the image itself."""
    draws = tf.random.stateless_uniform([4], seed)
    sides = tf.cast(size, tf.float32)
    wide = tf.floor(sides * (1 + (MAX_EXPANSION - 1) * draws[0]))
    begin = tf.floor((wide - sides) * draws[1:3])
    canvas = tf.cast(tf.concat([-begin, wide], axis=0), tf.int32)
    return tf.where(draws[3] < 0.5, whole(size), canvas)


def cut(boxes: tf.Tensor, labels: tf.Tensor, size: tf.Tensor, window: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Boxes relative to an image of `size` as boxes relative to a window of it, without those that are too thin."""
    corners = _corners(window)
    pixels = tf.clip_by_value(to_pixels(boxes, size), tf.tile(corners[:2], [2]), tf.tile(corners[2:], [2]))
    stays = tf.reduce_all(pixels[:, 2:] - pixels[:, :2] >= LEAST_PIXELS, axis=1)
    begin, sides = (tf.tile(tf.cast(part, tf.float32), [2]) for part in (window[:2], window[2:]))
    return ((pixels - begin) / sides)[stays], labels[stays]


def take_window(image: tf.Tensor, window: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The part of an image in a window, uint8 [h, w, 3], and the padding missing on each side, int32 [2, 2]."""
    size = tf.shape(image)[:2]
    begin, end = tf.clip_by_value(window[:2], 0, size), tf.clip_by_value(window[:2] + window[2:], 0, size)
    inside = image[begin[0] : end[0], begin[1] : end[1]]
    before = tf.clip_by_value(begin - window[:2], 0, window[2:])
    return inside, tf.stack([before, window[2:] - before - (end - begin)], axis=1)


def mirror(boxes: tf.Tensor) -> tf.Tensor:
    """Boxes in parts of an image that is mirrored left to right."""
    top, left, bottom, right = tf.unstack(boxes, axis=1)
    return tf.stack([top, 1 - right, bottom, 1 - left], axis=1)


def distort_color(image: tf.Tensor, seed: tf.Tensor, *, shuffled: bool) -> tf.Tensor:
    """SSD's distortion of an image, uint8 [h, w, 3]; if `shuffled`, half of the time RGB are in a random order."""
    distortion_seed, chance_seed, order_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    pixels = photometric_distort(tf.cast(image, tf.float32), distortion_seed)
    if shuffled:
        order = tf.random.stateless_uniform([], order_seed, 0, len(CHANNEL_ORDERS), tf.int32)
        order = tf.where(tf.random.stateless_uniform([], chance_seed) < 0.5, order, 0)
        pixels = tf.gather(pixels, tf.constant(CHANNEL_ORDERS)[order], axis=2)
    return round_to_uint8(pixels)


def _corners(windows: tf.Tensor) -> tf.Tensor:
    """Windows [..., 4] as boxes, float32."""
    begin, sides = windows[..., :2], windows[..., 2:]
    return tf.cast(tf.concat([begin, begin + sides], axis=-1), tf.float32)


def _area(boxes: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(boxes[..., 2:] - boxes[..., :2], axis=-1)


def _intersection(boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """The area that boxes have in common with others, of broadcast shapes."""
    begin, end = tf.maximum(boxes[..., :2], others[..., :2]), tf.minimum(boxes[..., 2:], others[..., 2:])
    return tf.reduce_prod(tf.maximum(end - begin, 0.0), axis=-1)
