"""Views of images and masks against NumPy's and PIL's, pixel by pixel; both move together, whatever is drawn."""

import numpy as np
import pytest
import tensorflow as tf
from masks import values
from photos import photo
from PIL import Image

from mobilenets_jax.data import segmentation_preprocessing as preprocessing
from mobilenets_jax.data.class_sets import IGNORED
from mobilenets_jax.data.preprocessing import example_seed
from mobilenets_jax.data.segmentation_options import SegmentationOptions

SIZE = (90, 64)  # width, height
MASK = values(0, size=SIZE)
IMAGE = np.asarray(photo(0, size=SIZE))


def options(augmentation='deeplab', image_size=(64, 90), **fields):
    return SegmentationOptions(image_size, 8, 0, augmentation=augmentation, **fields)


def views(chosen, count=12, image=IMAGE, mask=MASK):
    """The views of the first examples."""
    view = tf.function(lambda seed: preprocessing.train_view(tf.constant(image), tf.constant(mask), seed, chosen))
    return [[part.numpy() for part in view(example_seed(0, 1, index))] for index in range(count)]


def align_corners(image, size):
    """Bilinear with the corners of the image on those of the result, float64: TensorFlow 1's align_corners."""
    for axis, (length, target) in enumerate(zip(image.shape[:2], size, strict=True)):
        positions = np.arange(target) * (length - 1) / (target - 1)
        low = np.floor(positions).astype(int).clip(0, length - 1)
        high = (low + 1).clip(0, length - 1)
        share = (positions - low).reshape([-1, 1, 1] if axis == 0 else [1, -1, 1])
        image = image.take(low, axis) * (1 - share) + image.take(high, axis) * share
    return image


@pytest.mark.parametrize('scale', [0.5, 0.75, 1.0, 1.25, 1.75, 2.0])
def test_deeplab_scales_with_corners_on_corners(scale):
    """The whole scaled image, so that the crop has no choice."""
    height, width = int(64 * scale), int(90 * scale)
    chosen = options(image_size=(height, width), min_scale=scale, max_scale=scale, random_flip=False)
    ((image, mask),) = views(chosen, 1)
    expected = align_corners(IMAGE.astype(float), (height, width))
    assert np.abs(image - expected).max() <= 0.501
    rows, columns = (
        np.floor(np.arange(target) * (length - 1) / (target - 1) + 0.5).astype(int)
        for length, target in ((64, height), (90, width))
    )
    np.testing.assert_array_equal(mask, MASK[rows][:, columns])


def test_deeplab_is_what_tensorflow_1_makes():
    chosen = options(image_size=(112, 157), min_scale=1.75, max_scale=1.75, random_flip=False)
    ((image, mask),) = views(chosen, 1)
    resized = tf.compat.v1.image.resize_bilinear(IMAGE[np.newaxis], (112, 157), align_corners=True)
    assert np.abs(image - resized[0].numpy()).max() <= 0.501
    resized = tf.compat.v1.image.resize_nearest_neighbor(
        MASK[np.newaxis, ..., np.newaxis], (112, 157), align_corners=True
    )
    np.testing.assert_array_equal(mask, resized[0, ..., 0].numpy())


@pytest.mark.parametrize('short', [24, 50, 64, 97, 128])
def test_torchvision_resizes_as_pil(short):
    """F.resize of a PIL image: the long side rounded down, bilinear with antialiasing; the mask nearest."""
    height, width = short, int(short * 90 / 64)
    chosen = options('torchvision', (height, width), min_scale=1.0, max_scale=1.0, base_size=short, random_flip=False)
    ((image, mask),) = views(chosen, 1)
    expected = Image.fromarray(IMAGE)
    for size in ((width, 64), (width, height)):  # rows before columns, as PIL did up to version 12
        expected = expected.resize(size, Image.Resampling.BILINEAR)
    difference = np.abs(image.astype(int) - np.asarray(expected))
    assert difference.max() <= 2 and difference.mean() < 0.3
    expected = Image.fromarray(MASK).resize((width, height), Image.Resampling.NEAREST)
    # Half way between two pixels PIL, which adds up rounded steps, may take either.
    rows, columns = ((np.arange(n) + 0.5) * length % n != 0 for n, length in ((height, 64), (width, 90)))
    np.testing.assert_array_equal(mask[rows][:, columns], np.asarray(expected)[rows][:, columns])
    assert rows.mean() > 0.6 and columns.mean() > 0.6


@pytest.mark.parametrize('augmentation', ['deeplab', 'torchvision'])
def test_image_and_mask_move_together(augmentation):
    """An image that is painted by its mask still is after every view: the class of a pixel and its colour agree."""
    mask = np.kron(np.arange(6).reshape(2, 3), np.ones((32, 30), int)).astype(np.uint8)
    image = np.repeat(40 * mask[..., np.newaxis], 3, axis=-1).astype(np.uint8)
    seen = []
    for view, classes in views(options(augmentation, (48, 60), base_size=64), 24, image, mask):
        real = classes != IGNORED
        near = np.abs(view[..., 0].astype(int) - 40 * classes.astype(int)) < 21  # beside a border colours are mixed
        assert near[real].mean() > 0.93
        assert len(np.unique(classes)) > 1
        seen.append(view.tobytes())
    assert len(set(seen)) > 18  # at factor 0.5 there is one view, and its mirror image


@pytest.mark.parametrize(('augmentation', 'pixel'), [('deeplab', 128), ('torchvision', 0)])
def test_small_images_are_padded_at_the_end(augmentation, pixel):
    chosen = options(augmentation, (100, 120), min_scale=0.5, max_scale=0.5, base_size=64, random_flip=False)
    ((image, mask),) = views(chosen, 1)
    assert (image[32:] == pixel).all() and (image[:, 45:] == pixel).all()
    assert (mask[32:] == IGNORED).all() and (mask[:, 45:] == IGNORED).all()
    assert (mask[:32, :45] != IGNORED).all()


@pytest.mark.parametrize(('augmentation', 'side'), [('deeplab', 0), ('torchvision', -1)])
def test_padding_is_mirrored_by_deeplab_alone(augmentation, side):
    """Deeplab pads before it mirrors, torchvision behind: the first column of a mirrored view, and the last."""
    chosen = options(augmentation, (64, 120), min_scale=1.0, max_scale=1.0, base_size=64)
    mirrored = [mask for _, mask in views(chosen, 8) if not np.array_equal(mask[:, :90], MASK)]
    assert 0 < len(mirrored) < 8
    for mask in mirrored:
        assert (mask[:, side] == IGNORED).all()
        real = mask[:, 30:] if side == 0 else mask[:, :90]
        np.testing.assert_array_equal(real, MASK[:, ::-1])


def test_crops_reach_every_part_of_the_image():
    """A crop begins at 0 .. size - crop, both included: 3 x 4 places."""
    places = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8)
    image = np.repeat(places[..., np.newaxis], 3, axis=-1)
    chosen = options(image_size=(4, 5), min_scale=1.0, max_scale=1.0, random_flip=False)
    begins = {tuple(mask[0, :1]) for _, mask in views(chosen, 200, image, places)}
    assert begins == {(8 * row + column,) for row in range(3) for column in range(4)}


def test_scales_are_drawn_alike():
    draw = tf.function(lambda seed: preprocessing.random_scale(seed, options()))
    drawn = [float(draw(tf.constant([5, index], tf.int64))) for index in range(700)]
    counts = {factor: drawn.count(factor) for factor in sorted(set(drawn))}
    assert list(counts) == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert min(counts.values()) > 60 and max(counts.values()) < 140
    draw = tf.function(lambda seed: preprocessing.random_scale(seed, options(scale_step=0.0)))
    drawn = [float(draw(tf.constant([5, index], tf.int64))) for index in range(200)]
    assert 0.5 <= min(drawn) < 0.55 and 1.95 < max(drawn) < 2.0 and len(set(drawn)) > 190


def test_views_do_not_depend_on_what_else_is_read():
    first, again = views(options(image_size=(40, 50)), 4), views(options(image_size=(40, 50)), 4)
    for one, other in zip(first, again, strict=True):
        assert all(np.array_equal(*parts) for parts in zip(one, other, strict=True))


@pytest.mark.parametrize('size', [(1, 1), (1, 9), (2, 3)])
@pytest.mark.parametrize('augmentation', ['deeplab', 'torchvision'])
def test_tiny_images(augmentation, size):
    image, mask = np.full((*size, 3), 7, np.uint8), np.full(size, 3, np.uint8)
    for view, classes in views(options(augmentation, (4, 4), base_size=2), 4, image, mask):
        assert (view[classes == 3] == 7).all() and (classes == 3).any()


def test_images_are_resized_and_masks_are_not():
    """A long side of 45: the image is halved, and every pixel of the mask lies in half of its row and column."""
    fit = tf.function(lambda image: preprocessing.fit_into(image, 45, (70, 96)))
    image, places = fit(tf.constant(IMAGE))
    expected = Image.fromarray(IMAGE).resize((45, 32), Image.Resampling.BILINEAR)
    assert np.abs(image.numpy().astype(int) - np.asarray(expected)).max() <= 2
    assert places['rows'].numpy().tolist() == [*(np.arange(64) // 2), *[31] * 6]
    assert places['columns'].numpy().tolist() == [*(np.arange(90) // 2), *[44] * 6]
