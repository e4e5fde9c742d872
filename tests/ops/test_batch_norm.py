"""Batch normalisation against the formula of the paper, differentiated by JAX, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import covering
from jax import enable_x64

from mobilenets_jax.ops import ACTIVATIONS
from mobilenets_jax.ops.cpu.batch_norm import batch_norm
from mobilenets_jax.ops.cpu.normalization import Normalization

EPSILON = 1e-3


def reference(inputs, scale, bias, activation, axis_name=None):
    mean = inputs.mean((0, 1, 2))
    mean = mean if axis_name is None else jax.lax.pmean(mean, axis_name)
    variance = jnp.square(inputs - mean).mean((0, 1, 2))
    variance = variance if axis_name is None else jax.lax.pmean(variance, axis_name)
    return activation((inputs - mean) / jnp.sqrt(variance + EPSILON) * scale + bias), mean, variance


def arguments(dtype=np.float64, shape=(4, 3, 5, 7)):
    generator = np.random.default_rng(0)
    inputs = (2 * generator.standard_normal(shape) + 1).astype(dtype)
    wide = np.promote_types(dtype, np.float32) if dtype != jnp.bfloat16 else np.float32
    scale, bias = (generator.standard_normal(shape[-1]).astype(wide) for _ in range(2))
    return inputs, scale, bias, generator.standard_normal(shape).astype(dtype)


def value_and_gradients(function, inputs, scale, bias, weights):
    def loss(inputs, scale, bias):
        outputs, mean, variance = function(inputs, scale, bias)
        return (weights * outputs).sum(), (outputs, mean, variance)

    (_, value), gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(inputs, scale, bias)
    return jax.device_get((value, gradients))


@pytest.mark.parametrize(('name', 'channels'), covering(list(ACTIVATIONS), [7, 24]))
def test_value_and_gradients_are_those_of_the_formula(form, name, channels):
    with enable_x64(True):
        ours = functools.partial(batch_norm, epsilon=EPSILON, activation=name)
        example = arguments(shape=(4, 13, 15, channels))
        actual = value_and_gradients(ours, *example)
        expected = value_and_gradients(functools.partial(reference, activation=ACTIVATIONS[name]), *example)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12), actual, expected)


def test_devices_share_their_statistics(form):
    """Four devices with a part of the batch each compute what one computes with all of it."""
    with enable_x64(True):
        inputs, scale, bias, weights = arguments()
        expected = value_and_gradients(
            functools.partial(reference, activation=jax.nn.relu), inputs, scale, bias, weights
        )

        def part(inputs, weights, scale, bias):
            outputs, vjp = jax.vjp(
                functools.partial(batch_norm, epsilon=EPSILON, activation='relu', axis_name='batch'),
                inputs,
                scale,
                bias,
            )
            inputs_gradient, *gradients = vjp((weights, *(jnp.zeros_like(leaf) for leaf in outputs[1:])))
            return outputs, inputs_gradient, jax.lax.psum(gradients, 'batch')

        mapped = jax.vmap(part, axis_name='batch', in_axes=(0, 0, None, None))
        split = (array.reshape(4, 1, *array.shape[1:]) for array in (inputs, weights))
        outputs, inputs_gradient, gradients = jax.device_get(jax.jit(mapped)(*split, scale, bias))
    (expected_outputs, mean, variance), (expected_gradient, *expected_gradients) = expected
    np.testing.assert_allclose(outputs[0][:, 0], expected_outputs, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(outputs[1], np.tile(mean, (4, 1)), rtol=1e-12)
    np.testing.assert_allclose(outputs[2], np.tile(variance, (4, 1)), rtol=1e-10)
    np.testing.assert_allclose(inputs_gradient[:, 0], expected_gradient, rtol=1e-8, atol=1e-12)
    for gradient, expected_one in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient[0], expected_one, rtol=1e-10, atol=1e-12)


def test_bfloat16_keeps_its_statistics_in_float32():
    inputs, scale, bias, _ = arguments(jnp.bfloat16)
    outputs, mean, variance = batch_norm(inputs, scale, bias, epsilon=EPSILON, activation='relu')
    assert (outputs.dtype, mean.dtype, variance.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    wide = inputs.astype(np.float32)
    np.testing.assert_allclose(mean, wide.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, wide.var((0, 1, 2)), rtol=1e-4)


def test_running_statistics_normalise_in_evaluation(form):
    inputs, scale, bias, _ = arguments(np.float32)
    mean, variance = bias / 2, np.abs(scale)
    actual = Normalization(scale, bias, mean, variance, EPSILON, 'relu')(inputs)
    expected = np.maximum((inputs - mean) / np.sqrt(variance + EPSILON) * scale + bias, 0)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_evaluation_has_a_gradient(form):
    """Of networks whose running statistics are frozen."""
    inputs, scale, bias, weights = arguments(np.float32)
    mean, variance = bias / 2, np.abs(scale)

    def formula(inputs, scale, bias):
        return jnp.maximum((inputs - mean) / jnp.sqrt(variance + EPSILON) * scale + bias, 0)

    def ours(inputs, scale, bias):
        return Normalization(scale, bias, mean, variance, EPSILON, 'relu')(inputs)

    actual, expected = (
        jax.grad(lambda *xs, f=f: (weights * f(*xs)).sum(), argnums=(0, 1, 2))(inputs, scale, bias)
        for f in (ours, formula)
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), actual, expected)
