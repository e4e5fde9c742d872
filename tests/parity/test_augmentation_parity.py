"""Augmentation against timm's and torchvision's own code, on real photos where they are there."""

import random

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mobilenets_jax.data import auto_augment, preprocessing

pytestmark = pytest.mark.slow

BLENDS = ('Brightness', 'Color', 'Contrast', 'Sharpness')  # rounded otherwise here and there
TIMM_NAMES = {'TranslateX': 'TranslateXRel', 'TranslateY': 'TranslateYRel'}


def test_policy_v0_is_timms(timm):
    from timm.data.auto_augment import auto_augment_policy_v0

    policy = auto_augment_policy_v0({'img_mean': (128, 128, 128)})
    expected = tuple(tuple((op.name, op.prob, op.magnitude) for op in row) for row in policy)
    ours = tuple(tuple((TIMM_NAMES.get(name, name), *rest) for name, *rest in row) for row in auto_augment.POLICY_V0)
    assert ours == expected


@pytest.mark.parametrize('name', auto_augment.OPERATIONS)
def test_operation_is_timms(timm, name):
    from timm.data.auto_augment import AugmentOp

    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8).repeat(4, 0).repeat(4, 1)[:, :61]
    hparams = {'img_mean': (128, 128, 128), 'interpolation': Image.Resampling.NEAREST}
    for level in (3, 5, 9, 10):
        theirs = AugmentOp(TIMM_NAMES.get(name, name), prob=1.0, magnitude=level, hparams=hparams)
        random.seed(0)
        expected = np.asarray(theirs(Image.fromarray(pixels))).astype(int)
        strength = tf.constant(level / 10, tf.float64)
        ours = [auto_augment.OPERATIONS[name](tf.constant(pixels), strength, sign * strength) for sign in (-1, 1)]
        difference = min(np.abs(image.numpy().astype(int) - expected).max(axis=-1).tolist() for image in ours)
        assert (np.array(difference) > 1).mean() < 0.02, level


@pytest.mark.parametrize('name', auto_augment.WIDE_OPERATIONS)
def test_operation_of_trivialaugment_is_torchvisions(torchvision, name):
    """Each of the 31 magnitudes, in both directions: the number itself, and its pixels."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.autoaugment import TrivialAugmentWide, _apply_op

    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8).repeat(4, 0).repeat(4, 1)[:, :61]
    ours, (theirs, signed) = auto_augment.WIDE_OPERATIONS[name], TrivialAugmentWide()._augmentation_space(31)[name]
    assert ours.signed == signed
    magnitudes = theirs.numpy().astype(float) if theirs.ndim else np.zeros(31)
    wanted = np.ceil(magnitudes) if name == 'Solarize' else magnitudes
    np.testing.assert_allclose(ours.magnitudes, wanted, rtol=1e-6, atol=1e-6)
    function = tf.function(ours.function, reduce_retracing=True)
    for number in range(31):
        for sign in (1, -1) if signed else (1,):
            image = Image.fromarray(pixels)
            # Torch's 16th translation is 15.999999, of which it takes 15 pixels; it means 16.
            magnitude = sign * (magnitudes if name == 'Solarize' else ours.magnitudes)[number]
            expected = np.asarray(_apply_op(image, name, magnitude, InterpolationMode.NEAREST, None)).astype(int)
            found = function(tf.constant(pixels), tf.constant(sign * ours.magnitudes[number])).numpy().astype(int)
            difference = np.abs(found - expected).max(axis=-1)
            allowed = 0.02 if name in ('Rotate', 'ShearX', 'ShearY') else 0.0  # where two pixels are as near
            assert (difference > (1 if name in BLENDS else 0)).mean() <= allowed, (number, sign)


def test_trivialaugment_has_the_operations_of_torchvision(torchvision):
    from torchvision.transforms.autoaugment import TrivialAugmentWide

    assert list(TrivialAugmentWide()._augmentation_space(31)) == list(auto_augment.WIDE_OPERATIONS)


def test_random_resized_boxes_are_distributed_as_torchvisions(torchvision, torch):
    """Means and quantiles of area, aspect and position, of an image that is too long for some of the boxes."""
    from torchvision.transforms import RandomResizedCrop

    image = Image.new('RGB', (300, 90))
    theirs = np.array([RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(4000)])
    shape = tf.constant([90, 300, 3])

    @tf.function
    def box(index):
        begin, size = preprocessing.random_resized_box(shape, preprocessing.example_seed(0, 0, index), 0.08)
        return tf.concat([begin[:2], size[:2]], axis=0)

    ours = np.array([box(index) for index in tf.range(4000)])
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        np.testing.assert_allclose(
            np.quantile(ours, quantile, axis=0), np.quantile(theirs, quantile, axis=0), atol=6, err_msg=quantile
        )
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=3)
