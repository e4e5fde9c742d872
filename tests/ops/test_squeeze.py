"""Means and factors of channels, in all forms, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilenets_jax.ops import global_average_pool, scale_channels

SHAPES = [(1, 14, 14, 40), (3, 5, 7, 33), (9, 4, 4, 16), (2, 1, 1, 3), (12, 3, 2, 1), (0, 4, 4, 24)]


@pytest.mark.parametrize('shape', SHAPES)
def test_means_equal_numpy(form, shape):
    generator = np.random.default_rng(0)
    inputs, weights = generator.normal(size=shape), generator.normal(size=(shape[0], shape[-1]))

    def loss(inputs):
        means = global_average_pool(inputs)
        return jnp.sum(means * weights), means

    with jax.enable_x64(True):
        gradient, means = jax.jit(jax.grad(loss, has_aux=True))(inputs)
    np.testing.assert_allclose(means, inputs.mean(axis=(1, 2)), rtol=1e-12, atol=1e-12)
    expected = np.broadcast_to(weights[:, None, None] / (shape[1] * shape[2]), shape)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('shape', SHAPES)
def test_factors_equal_numpy(form, shape):
    generator = np.random.default_rng(0)
    inputs, weights, factors = (generator.normal(size=size) for size in (shape, shape, (shape[0], shape[-1])))

    def loss(inputs, factors):
        outputs = scale_channels(inputs, factors)
        return jnp.sum(outputs * weights), outputs

    with jax.enable_x64(True):
        gradients, outputs = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(inputs, factors)
    np.testing.assert_allclose(outputs, inputs * factors[:, None, None], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gradients[0], weights * factors[:, None, None], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gradients[1], (inputs * weights).sum(axis=(1, 2)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('channels', [1, 32])
def test_bfloat16_pooling_sums_in_float32(form, channels):
    image = np.full((1, 64, 64, channels), 1.0078125, np.float32)  # exact in bfloat16, whose sum would stop at 256
    np.testing.assert_array_equal(global_average_pool(jnp.asarray(image, jnp.bfloat16)), image[:, 0, 0])


def test_both_have_kernels_where_there_are_some(form):
    inputs = jnp.ones((2, 3, 3, 16))
    jaxpr = str(jax.make_jaxpr(lambda x: scale_channels(x, global_average_pool(x)))(inputs))
    assert jaxpr.count('ffi_call') == (2 if form == 'native' else 0)
