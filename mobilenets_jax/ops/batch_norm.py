"""Batch normalisation with its activation, and a gradient that stores neither.

Automatic differentiation keeps the normalised values and the activation's mask of every layer. The gradient here keeps
the input alone, which the convolution before it made anyway, and computes both again: half the memory, and fewer passes
over it.

Paper: 1502.03167; the gradient is the one of its section 3, with the sums over all devices where they share statistics.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from mobilenets_jax.ops.sums import pixel_sums

Activation = Callable[[jax.Array], jax.Array]


def batch_norm(
    inputs: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    epsilon: float,
    activation: Activation,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises by the statistics of the batch, scales, shifts, and applies the activation.

    It supports reverse-mode differentiation, and no forward mode.

    Args:
      inputs: floating point [N, H, W, C].
      scale: [C], float32, or float64 for float64 inputs.
      bias: like `scale`.
      epsilon: added to the variance.
      activation: elementwise.
      axis_name: the mapped axis over which the statistics are averaged, or None.

    Returns:
      The outputs, [N, H, W, C] of the dtype of `inputs`; mean and (biased) variance, [C] of the dtype of `scale`, which
      carry no gradient.
    """
    return _batch_norm(inputs, scale, bias, epsilon, activation, axis_name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _batch_norm(inputs, scale, bias, epsilon, activation, axis_name):
    mean, variance = _statistics(inputs.astype(scale.dtype), axis_name)
    return normalize(inputs, scale, bias, mean, variance, epsilon=epsilon, activation=activation), mean, variance


def normalize(
    inputs: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    *,
    epsilon: float,
    activation: Activation,
) -> jax.Array:
    """Normalises by given statistics, scales, shifts, and applies the activation; see `batch_norm`."""
    factor = scale * lax.rsqrt(variance + epsilon)
    return activation(inputs.astype(scale.dtype) * factor + (bias - mean * factor)).astype(inputs.dtype)


def _statistics(inputs: jax.Array, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    """Mean and variance [C] from the sums of values and squares, in one pass."""
    moments = jnp.stack(pixel_sums([inputs, jnp.square(inputs)])) / math.prod(inputs.shape[:3])
    mean, mean_square = moments if axis_name is None else lax.pmean(moments, axis_name)
    return mean, jnp.maximum(mean_square - jnp.square(mean), 0)


def _forward(inputs, scale, bias, epsilon, activation, axis_name):
    outputs, mean, variance = _batch_norm(inputs, scale, bias, epsilon, activation, axis_name)
    return (outputs, mean, variance), (inputs, scale, bias, mean, variance)


def _backward(epsilon, activation, axis_name, saved, gradients):
    inputs, scale, bias, mean, variance = saved
    inverse = lax.rsqrt(variance + epsilon)
    normalized = (inputs.astype(scale.dtype) - mean) * inverse
    _, activation_vjp = jax.vjp(activation, normalized * scale + bias)
    (gradient,) = activation_vjp(gradients[0].astype(scale.dtype))

    bias_gradient, scale_gradient = pixel_sums([gradient, gradient * normalized])
    means = jnp.stack([bias_gradient, scale_gradient]) / math.prod(inputs.shape[:3])
    if axis_name is not None:
        means = lax.pmean(means, axis_name)
    inputs_gradient = scale * inverse * (gradient - means[0] - normalized * means[1])
    return inputs_gradient.astype(inputs.dtype), scale_gradient, bias_gradient


_batch_norm.defvjp(_forward, _backward)
