"""SSD's photometric distortion: how often each part of it happens, how far it goes, and that masks do not change."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf

from mobilenets_jax.data import segmentation_preprocessing
from mobilenets_jax.data.photometric import photometric_distort
from mobilenets_jax.data.segmentation_options import SegmentationOptions

DRAWS = 400


def distorted(image, draws=DRAWS):
    seeds = tf.stack([tf.zeros(draws, tf.int64), tf.range(draws, dtype=tf.int64)], axis=1)
    return tf.map_fn(
        lambda seed: photometric_distort(tf.constant(image, tf.float32), seed), seeds, fn_output_signature=tf.float32
    ).numpy()


def test_grey_shows_brightness_and_contrast_alone():
    """Grey g becomes (g + b) * c, with b in [-32, 32] and c in [0.5, 1.5], each for half of the images."""
    dark, light = distorted(np.array([[[80] * 3, [120] * 3]]))[:, 0, :, 0].T.astype(float)
    contrast = (light - dark) / 40
    brightness = dark / contrast - 80
    assert contrast.min() >= 0.499 and contrast.max() <= 1.501
    assert np.abs(brightness).max() <= 32.1
    changed = np.array([(np.abs(contrast - 1) > 1e-3).mean(), (np.abs(brightness) > 1e-2).mean()])
    assert changed == pytest.approx(0.5, abs=0.08)
    assert contrast.std() == pytest.approx((0.5 / 12) ** 0.5, rel=0.15)  # half of them uniform, of width 1
    assert brightness.std() == pytest.approx((64**2 / 24) ** 0.5, rel=0.15)


def test_hue_and_saturation_keep_their_ranges():
    """Neither brightness nor contrast changes hue where nothing is clipped, and contrast does not change saturation."""
    results = distorted(np.array([[[90, 120, 100]]]))[:, 0, 0]
    hue, saturation, _ = np.array([colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in results]).T
    turned = hue - colorsys.rgb_to_hsv(90, 120, 100)[0]
    assert np.abs(turned).max() <= 18 / 360 + 1e-3
    assert (np.abs(turned) > 1e-3).mean() == pytest.approx(0.5, abs=0.08)
    assert saturation.min() >= 0.25 * 0.5 * 0.78 and saturation.max() <= 0.25 * 1.5 * 1.37  # 30 / (120 +- 32) at most


def test_result_is_a_function_of_the_seed_within_the_range_of_pixels():
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3))
    first, second = distorted(image, 40), distorted(image, 40)
    np.testing.assert_array_equal(first, second)
    assert first.min() >= 0 and first.max() <= 255
    assert len({one.tobytes() for one in first}) > 30  # one of 16 stays as it is
    assert any(np.allclose(one, image, atol=1e-3) for one in first)


def test_views_differ_in_colour_alone_and_padding_keeps_the_mean():
    image = np.random.default_rng(1).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    mask = np.random.default_rng(2).integers(0, 5, (40, 60)).astype(np.uint8)

    def view(seed, **fields):
        options = SegmentationOptions((64, 80), 8, 0, **fields)
        seed = tf.constant([0, seed], tf.int64)
        return [part.numpy() for part in segmentation_preprocessing.train_view(image, mask, seed, options)]

    differences = 0
    for seed in range(8):
        (plain, classes), (coloured, same_classes) = view(seed), view(seed, color_distortion='photometric')
        np.testing.assert_array_equal(classes, same_classes)
        padding = (plain == 128).all(-1) & (classes == 255)
        np.testing.assert_array_equal(coloured[padding], 128)
        differences += (plain != coloured).any()
    assert differences >= 6
