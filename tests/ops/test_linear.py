"""The product of a dense layer is the matrix product, forward and backward."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilenets_jax.ops import dense_product


@pytest.mark.parametrize('shape', [(1, 40), (1, 1003), (7, 33), (64, 3), (2, 5, 12), (0, 24)])
def test_equals_numpy(form, shape):
    generator = np.random.default_rng(0)
    inputs, kernel, weights = (generator.normal(size=size) for size in (shape, (shape[-1], 21), (*shape[:-1], 21)))

    def loss(inputs, kernel):
        outputs = nn.Dense(21, use_bias=False, dot_general=dense_product).apply({'params': {'kernel': kernel}}, inputs)
        return jnp.sum(outputs * weights), outputs

    with jax.enable_x64(True):
        gradients, outputs = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(inputs, kernel)
    np.testing.assert_allclose(outputs, inputs @ kernel, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gradients[0], weights @ kernel.T, rtol=1e-12, atol=1e-12)
    expected = inputs.reshape(-1, shape[-1]).T @ weights.reshape(-1, 21)
    np.testing.assert_allclose(gradients[1], expected, rtol=1e-12, atol=1e-12)


def test_vectors_are_multiplied_by_the_kernel_where_there_is_one(form):
    layer = nn.Dense(21, dot_general=dense_product)
    inputs = jnp.ones((2, 12))
    jaxpr = str(jax.make_jaxpr(layer.init)(jax.random.key(0), inputs))
    assert ('ffi_call' in jaxpr) == (form == 'native') and ('dot_general' in jaxpr) == (form == 'plain')
