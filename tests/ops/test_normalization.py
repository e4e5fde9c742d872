"""A convolution with what follows it in one pass is the two of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import covering

from mobilenets_jax.ops import ACTIVATIONS
from mobilenets_jax.ops.cpu.dense import dense_conv
from mobilenets_jax.ops.cpu.depthwise import depthwise_conv
from mobilenets_jax.ops.cpu.normalization import Normalization

CONVOLUTIONS = {
    'depthwise': (functools.partial(depthwise_conv, stride=2), (3, 3, 1, 24)),
    'depthwise 5x5': (depthwise_conv, (5, 5, 1, 24)),
    'pointwise': (dense_conv, (1, 1, 24, 40)),
    'first': (functools.partial(dense_conv, stride=2), (3, 3, 24, 5)),
}


@pytest.mark.parametrize(
    ('activation', 'adds', 'conv'),
    covering([*((name, False) for name in ACTIVATIONS), ('linear', True), ('relu6', True)], list(CONVOLUTIONS)),
)
def test_equals_the_two_apart(form, conv, activation, adds):
    convolve, kernel_shape = CONVOLUTIONS[conv]
    generator = np.random.default_rng(0)
    inputs, kernel = generator.normal(size=(2, 9, 10, 24)), generator.normal(size=kernel_shape)
    scale, bias, mean, deviation = generator.normal(size=(4, kernel_shape[-1]))
    residual = generator.normal(size=jax.eval_shape(convolve, inputs, kernel).shape)
    arguments = (inputs, kernel, residual, scale, bias, mean, deviation**2)

    def together(inputs, kernel, residual, *statistics):
        then = Normalization(*statistics, 1e-3, activation, residual if adds else None)
        return convolve(inputs, kernel, then=then)

    def apart(inputs, kernel, residual, scale, bias, mean, variance):
        normalized = (convolve(inputs, kernel) - mean) / jnp.sqrt(variance + 1e-3)
        return ACTIVATIONS[activation](normalized * scale + bias) + (residual if adds else 0)

    def value_and_gradients(function):
        gradients = jax.grad(lambda *arguments: jnp.sin(function(*arguments)).sum(), argnums=range(7))
        return jax.jit(lambda *arguments: (function(*arguments), *gradients(*arguments)))(*arguments)

    with jax.enable_x64(True):
        actual, expected = (value_and_gradients(function) for function in (together, apart))
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize('name', ['linear', 'relu', 'relu6', 'hard_swish'])
def test_what_is_no_number_stays_none(form, name):
    ones = jnp.ones(16)
    outputs = Normalization(ones, ones, ones, ones, 1e-3, name)(jnp.full((1, 1, 1, 16), jnp.nan))
    assert jnp.isnan(outputs).all()
