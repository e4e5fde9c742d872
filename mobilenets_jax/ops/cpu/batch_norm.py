"""Batch normalisation with its activation, and a gradient that stores neither.

Automatic differentiation keeps the normalised values and the activation's mask of every layer. The gradient here keeps
the input alone, which the convolution before it made anyway, and computes both again: half the memory, and fewer passes
over it. Each of the four passes has a native op and a form in plain JAX.

Paper: 1502.03167; the gradient is the one of its section 3, with the sums over all devices where they share statistics.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from mobilenets_jax.ops.activations import ACTIVATIONS
from mobilenets_jax.ops.cpu import native
from mobilenets_jax.ops.cpu.normalization import Normalization
from mobilenets_jax.ops.cpu.sums import pixel_sums


def batch_norm(
    inputs: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    epsilon: float,
    activation: str,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Arguments and outputs as of `ops.batch_norm`; it supports reverse-mode differentiation, and no forward mode."""
    return _batch_norm(inputs, scale, bias, epsilon, activation, axis_name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _batch_norm(inputs, scale, bias, epsilon, activation, axis_name):
    mean, variance = statistics(_sums(inputs, scale.dtype), inputs, axis_name)
    normalize = Normalization(scale, bias, mean, variance, epsilon, activation)
    return normalize(inputs), mean, variance


def _forward(inputs, scale, bias, epsilon, activation, axis_name):
    outputs, mean, variance = _batch_norm(inputs, scale, bias, epsilon, activation, axis_name)
    return (outputs, mean, variance), (inputs, scale, bias, mean, variance)


def _backward(epsilon, activation, axis_name, saved, gradients):
    inputs, *parameters = saved
    normalization = Normalization(*parameters, epsilon, activation)
    sums = gradient_sums(inputs, gradients[0], normalization)
    constants, *parameter_gradients = gradient_constants(sums, inputs, normalization, axis_name)
    return _inputs_gradient(inputs, gradients[0], constants, activation), *parameter_gradients


_batch_norm.defvjp(_forward, _backward)


def statistics(sums: jax.Array, inputs: jax.Array, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    """Mean and variance, [C] each, of `inputs` from their sums and those of their squares, [2, C]."""
    mean, mean_square = _mean(sums, inputs, axis_name)
    return mean, jnp.maximum(mean_square - jnp.square(mean), 0)


def sum_constants(normalization: Normalization) -> jax.Array:
    """What `gradient_sums` are computed with, [4, C]: factor and shift, the mean, and 1 / deviation."""
    inverse = lax.rsqrt(normalization.variance + normalization.epsilon)
    return jnp.stack([*normalization.factor_and_shift(), normalization.mean, inverse])


def gradient_sums(inputs: jax.Array, gradients: jax.Array, normalization: Normalization) -> jax.Array:
    """Sums over the pixels, [2, C], from inputs and gradients of outputs of a normalisation, [N, H, W, C] each.

    The first are of the gradients of the activation's arguments, the second of their products with the normalised
    values.
    """
    constants, activation = sum_constants(normalization), normalization.activation
    if native.supports(inputs.dtype, activation):
        arrays = {'statistics': [constants], 'activation': activation}
        return native.call('norm_gradient_sums', _rows(2, inputs), inputs, gradients, **arrays)
    factor, shift, mean, inverse = constants
    before = _before_activation(inputs, gradients, factor, shift, activation)
    return jnp.stack(pixel_sums([before, before * ((inputs.astype(mean.dtype) - mean) * inverse)]))


def gradient_constants(
    sums: jax.Array, inputs: jax.Array, normalization: Normalization, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What the gradient of the inputs is computed from, pixel by pixel, and the gradients of the parameters.

    Args:
      sums: see `gradient_sums`.
      inputs: of the normalisation, [N, H, W, C].
      normalization: by the statistics of the batch.
      axis_name: see `batch_norm`.

    Returns:
      [6, C]: factor and shift by which the activation's arguments were made; the mean; and a, b, d such that the
      gradient is a * (gradient of the activation's argument) + b * (input - mean) + d. Then those of scale and bias.
    """
    means = _mean(sums, inputs, axis_name)
    factor, shift, mean, inverse = sum_constants(normalization)
    # factor * (gradient - mean of gradients - normalized * mean of gradients * normalized)
    slopes = [factor, -factor * inverse * means[1], -factor * means[0]]
    return jnp.stack([factor, shift, mean, *slopes]), sums[1], sums[0]


def _mean(sums: jax.Array, inputs: jax.Array, axis_name: str | None) -> jax.Array:
    """Turns sums over the pixels of `inputs` into means, over all devices of the axis."""
    means = sums / math.prod(inputs.shape[:3])
    return means if axis_name is None else lax.pmean(means, axis_name)


def _sums(inputs: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Sums of the values and of their squares, [2, C], in one pass."""
    if native.supports(inputs.dtype):
        return native.call('norm_sums', _rows(2, inputs), inputs)
    wide = inputs.astype(dtype)
    return jnp.stack(pixel_sums([wide, jnp.square(wide)]))


def _before_activation(inputs, gradients, factor, shift, activation) -> jax.Array:
    """The gradients by the activation's arguments, wide."""
    wide = inputs.astype(factor.dtype)
    _, vjp = jax.vjp(ACTIVATIONS[activation], wide * factor + shift)
    return vjp(gradients.astype(wide.dtype))[0]


def _inputs_gradient(inputs, gradients, constants, activation):
    """The gradient of the inputs from `gradient_constants`."""
    if native.supports(inputs.dtype, activation):
        return native.call(
            'norm_gradient_apply', inputs, inputs, gradients, statistics=[constants], activation=activation
        )
    factor, shift, mean, slope, input_slope, constant = constants
    before = _before_activation(inputs, gradients, factor, shift, activation)
    outputs = slope * before + input_slope * (inputs.astype(mean.dtype) - mean) + constant
    return outputs.astype(inputs.dtype)


def _rows(count: int, inputs: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((count, inputs.shape[-1]), native.wide_dtype(inputs.dtype))
