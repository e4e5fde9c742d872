"""Bilinear resizes by both rules, beside their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilenets_jax.ops import resize_bilinear


def by_definition(images, size, align_corners):
    """Each output is a mixture of the two pixels on either side of where it comes from, down and then across."""
    for axis, target in enumerate(size, start=1):
        source = images.shape[axis]
        if align_corners:
            places = np.arange(target) * ((source - 1) / max(target - 1, 1))
        else:
            places = (np.arange(target) + 0.5) * (source / target) - 0.5
        places = np.clip(places, 0, source - 1)
        low = np.minimum(places.astype(int), source - 1)
        high = np.minimum(low + 1, source - 1)
        share = np.reshape(places - low, [-1 if i == axis else 1 for i in range(4)])
        images = np.take(images, low, axis) * (1 - share) + np.take(images, high, axis) * share
    return images


@pytest.mark.parametrize('align_corners', [True, False])
@pytest.mark.parametrize(
    ('source', 'size'), [((5, 7), (9, 20)), ((33, 17), (65, 17)), ((1, 4), (6, 1)), ((9, 8), (4, 3)), ((2, 2), (1, 2))]
)
def test_resize_is_its_definition(source, size, align_corners):
    images = np.random.default_rng(0).standard_normal((2, *source, 3)).astype(np.float32)
    resized = resize_bilinear(images, size, align_corners=align_corners)
    np.testing.assert_allclose(resized, by_definition(images, size, align_corners), atol=1e-5)


def test_corners_and_dtype():
    images = jnp.asarray(np.random.default_rng(0).standard_normal((1, 4, 5, 1)), jnp.bfloat16)
    resized = resize_bilinear(images, (13, 13), align_corners=True)
    assert resized.dtype == jnp.bfloat16
    np.testing.assert_array_equal(resized[:, ::12, ::12], images[:, ::3, ::4])


def test_resize_is_differentiable_and_linear():
    images = np.random.default_rng(0).standard_normal((1, 3, 4, 2)).astype(np.float32)
    weights = np.random.default_rng(1).standard_normal((1, 7, 9, 2)).astype(np.float32)

    def loss(images):
        return jnp.sum(weights * resize_bilinear(images, (7, 9), align_corners=True))

    np.testing.assert_allclose(jnp.sum(jax.grad(loss)(images) * images), loss(images), rtol=1e-4)
