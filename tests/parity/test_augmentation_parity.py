"""Augmentation against timm's and torchvision's own code, on real photos where they are there."""

import random

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mobilenets_jax.data import auto_augment, preprocessing

pytestmark = pytest.mark.slow

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
