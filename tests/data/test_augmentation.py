"""The functions that run on the device, against written-out references."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from mobilenets_jax.data import augmentation

AFFINE = {'max_rotation_degrees': 10.0, 'max_scale': 0.1, 'max_shear': 0.1, 'max_shift_fraction': 1 / 16}

random_affine = jax.jit(augmentation.random_affine, static_argnames=list(AFFINE))


def test_symmetric_normalization():
    images = np.array([0, 51, 255], np.uint8).reshape(1, 1, 3, 1).repeat(3, axis=-1)
    np.testing.assert_allclose(augmentation.normalize(images, 'symmetric')[0, 0, :, 0], [-1, -0.6, 1], atol=1e-7)


def test_imagenet_normalization():
    images = np.full((1, 1, 1, 3), 255, np.uint8)
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    np.testing.assert_allclose(augmentation.normalize(images, 'imagenet')[0, 0, 0], expected, rtol=1e-6)


def test_affine_equals_scipy():
    """Each example is `ndimage.affine_transform` of order 1 with the amounts drawn for it."""
    images = np.random.default_rng(0).integers(0, 256, (8, 12, 10, 3), np.uint8)
    keys = augmentation.example_keys(7, np.zeros(8, np.int32), np.arange(8, dtype=np.int32))
    actual = random_affine(keys, images, **AFFINE)
    for key, image, result in zip(keys, images, np.asarray(actual), strict=True):
        drawn = np.asarray(jax.random.uniform(key, (5,), minval=-1, maxval=1), np.float64)
        angle, scale, shear = np.deg2rad(10 * drawn[0]), 1 + 0.1 * drawn[1], 0.1 * drawn[2]
        rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
        matrix = np.array([[1, 0], [shear, 1]]) @ rotate
        centre = np.array([5.5, 4.5])
        offset = centre - matrix @ centre + drawn[3:] / 16 * [12, 10]
        for channel in range(3):
            padded = np.pad(image[..., channel].astype(np.float64), 4)  # scipy does not blend the border with 0.
            expected = ndimage.affine_transform(padded, matrix, offset + 4 - matrix @ [4, 4], order=1)[4:-4, 4:-4]
            np.testing.assert_allclose(result[..., channel], expected, atol=1e-2)


def test_no_amounts_change_nothing():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    keys = augmentation.example_keys(0, np.zeros(2, np.int32), np.arange(2, dtype=np.int32))
    result = random_affine(keys, images, **dict.fromkeys(AFFINE, 0.0))
    assert np.array_equal(result, images)


@pytest.mark.parametrize('dtype', ['float32', 'uint8'])
def test_affine_keeps_the_range(dtype):
    images = np.full((64, 16, 16, 3), 255, dtype)
    keys = augmentation.example_keys(0, np.zeros(64, np.int32), np.arange(64, dtype=np.int32))
    result = np.asarray(random_affine(keys, images, **AFFINE))
    assert result.dtype == np.float32
    assert result.min() >= 0 and result.max() <= 255.001
    assert (result[:, 7:9, 7:9] > 254).all()  # The centre never leaves the image.


def keys(count):
    return augmentation.example_keys(0, np.zeros(count, np.int32), np.arange(count, dtype=np.int32))


def test_half_of_the_images_are_flipped():
    images = np.random.default_rng(0).integers(0, 256, (200, 6, 5, 3), np.uint8)
    result = np.asarray(augmentation.random_flip(keys(200), images))
    flipped = (result == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (flipped | (result == images).all(axis=(1, 2, 3))).all()
    assert 75 < flipped.sum() < 125


def test_shift_is_a_crop_of_the_padded_image():
    images = np.random.default_rng(0).integers(1, 256, (400, 6, 5, 3), np.uint8)
    result = np.asarray(jax.jit(lambda k, x: augmentation.random_shift(k, x, max_pixels=2))(keys(400), images))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    crops = np.stack([padded[:, i : i + 6, j : j + 5] for i in range(5) for j in range(5)])  # [25, n, H, W, C]
    which = (crops == result).all(axis=(2, 3, 4))
    assert (which.sum(axis=0) == 1).all()
    assert which.sum(axis=1).min() > 4  # Each of the 25 shifts is drawn, 16 times on average.


def erased_boxes_numpy(count, height, width):
    """The rule of timm's RandomErasing, written out: top, left, height and width, int [count, 4]."""
    generator = np.random.default_rng(0)
    boxes = []
    while len(boxes) < count:
        area = generator.uniform(0.02, 1 / 3) * height * width
        aspect = np.exp(generator.uniform(np.log(0.3), np.log(1 / 0.3)))
        h, w = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if h < height and w < width:
            boxes.append((generator.integers(0, height - h + 1), generator.integers(0, width - w + 1), h, w))
    return np.array(boxes)


def test_erased_boxes_are_distributed_as_timms():
    boxes = np.asarray(jax.jit(jax.vmap(lambda key: augmentation.erased_box(key, (32, 48))))(keys(4000)))
    rows, columns = boxes.any(axis=2), boxes.any(axis=1)
    ours = np.stack([rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)], axis=1)
    assert np.array_equal(boxes.sum(axis=(1, 2)), ours[:, 2] * ours[:, 3])  # rectangles
    theirs = erased_boxes_numpy(4000, 32, 48)
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=0.6)
    for quantile in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(np.quantile(ours, quantile, axis=0), np.quantile(theirs, quantile, axis=0), atol=1)


@pytest.mark.parametrize('noise', [False, True])
def test_erasing_touches_the_share_of_images_that_it_should(noise):
    images = np.full((400, 16, 16, 3), 7, np.float32)
    erase = jax.jit(lambda k, x: augmentation.random_erasing(k, x, probability=0.25, noise=noise))
    result = np.asarray(erase(keys(400), images))
    erased = (result != 7).all(axis=-1)
    assert 70 < erased.any(axis=(1, 2)).sum() < 130
    filled = result[erased]
    if noise:
        assert abs(filled.mean()) < 0.02 and abs(filled.std() - 1) < 0.02
    else:
        assert (filled == 0).all()
    assert np.array_equal(result, erase(keys(400), images))
