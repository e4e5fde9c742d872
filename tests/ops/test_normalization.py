"""A convolution with what follows it in one pass is the two of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilenets_jax.ops import ACTIVATIONS, Affine, dense_conv, depthwise_conv

CONVOLUTIONS = {
    'depthwise': (functools.partial(depthwise_conv, stride=2), (3, 3, 1, 24)),
    'depthwise 5x5': (depthwise_conv, (5, 5, 1, 24)),
    'pointwise': (dense_conv, (1, 1, 24, 40)),
    'first': (functools.partial(dense_conv, stride=2), (3, 3, 24, 5)),
}


@pytest.mark.parametrize('activation', ACTIVATIONS)
@pytest.mark.parametrize('conv', CONVOLUTIONS)
def test_equals_the_two_apart(form, conv, activation):
    convolve, kernel_shape = CONVOLUTIONS[conv]
    generator = np.random.default_rng(0)
    inputs, kernel = generator.normal(size=(2, 9, 10, 24)), generator.normal(size=kernel_shape)
    factor, shift = generator.normal(size=(2, kernel_shape[-1]))

    def together(inputs, kernel, factor, shift):
        return convolve(inputs, kernel, then=Affine(factor, shift, activation))

    def apart(inputs, kernel, factor, shift):
        return ACTIVATIONS[activation](convolve(inputs, kernel) * factor + shift)

    def value_and_gradients(function, *arguments):
        gradients = jax.grad(lambda *arguments: jnp.sin(function(*arguments)).sum(), argnums=(0, 1, 2, 3))
        return jax.jit(lambda *arguments: (function(*arguments), *gradients(*arguments)))(*arguments)

    with jax.enable_x64(True):
        actual, expected = (value_and_gradients(f, inputs, kernel, factor, shift) for f in (together, apart))
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize('name', ['linear', 'relu', 'relu6', 'hard_swish'])
def test_what_is_no_number_stays_none(form, name):
    ones = jnp.ones(16)
    outputs = Affine(ones, ones, name)(jnp.full((1, 1, 1, 16), jnp.nan))
    assert jnp.isnan(outputs).all()
