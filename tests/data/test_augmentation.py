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
