"""Batch normalisation and the activation after it, written plainly and differentiated by JAX.

XLA joins the sums of the statistics with the convolution that makes the inputs, and computes again in the gradient what
is cheaper than to read.

Paper: 1502.03167.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mobilenets_jax.ops.activations import ACTIVATIONS
from mobilenets_jax.ops.marked import marked


class NormOptions(NamedTuple):
    """A normalisation without its arrays.

    Attributes:
        epsilon: added to the variance.
        activation: a key of `ACTIVATIONS`.
        axis_name: the mapped axis over which the statistics of a batch are averaged, or None.
    """

    epsilon: float
    activation: str
    axis_name: str | None = None


def batch_norm(
    inputs: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    epsilon: float,
    activation: str = 'linear',
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises by the statistics of the batch, scales, shifts, and applies the activation.

    Args:
        inputs: floating point [N, H, W, C].
        scale: [C], float32, or float64 for float64 inputs.
        bias: like `scale`.
        epsilon: added to the variance.
        activation: a key of `ACTIVATIONS`.
        axis_name: the mapped axis over which the statistics are averaged, or None.

    Returns:
        The outputs, [N, H, W, C] of the dtype of `inputs`; mean and (biased) variance, [C] of the dtype of `scale`,
        which carry no gradient.
    """
    return _batch_norm(NormOptions(epsilon, activation, axis_name), inputs, scale, bias)


def normalize(
    inputs: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    *,
    epsilon: float,
    activation: str = 'linear',
) -> jax.Array:
    """Normalises by statistics that are known, [C] each; arguments and outputs as of `batch_norm`."""
    return _normalize(NormOptions(epsilon, activation), inputs, scale, bias, mean, variance)


@marked
def _batch_norm(options: NormOptions, inputs, scale, bias):
    wide = inputs.astype(scale.dtype)
    means = jnp.stack([jnp.mean(wide, axis=(0, 1, 2)), jnp.mean(jnp.square(wide), axis=(0, 1, 2))])
    if options.axis_name is not None:
        means = lax.pmean(means, options.axis_name)
    mean, variance = means[0], jnp.maximum(means[1] - jnp.square(means[0]), 0)
    outputs = _activated(options, inputs, scale, bias, mean, variance)
    return outputs, lax.stop_gradient(mean), lax.stop_gradient(variance)


@marked
def _normalize(options: NormOptions, inputs, scale, bias, mean, variance):
    return _activated(options, inputs, scale, bias, mean, variance)


def _activated(options: NormOptions, inputs, scale, bias, mean, variance) -> jax.Array:
    factor, shift = factor_and_shift(options.epsilon, scale, bias, mean, variance)
    normalized = inputs.astype(factor.dtype) * factor + shift
    # The activation's argument, which its gradient may keep, is no wider than the inputs.
    return ACTIVATIONS[options.activation](normalized.astype(inputs.dtype))


def factor_and_shift(epsilon: float, scale, bias, mean, variance) -> tuple[jax.Array, jax.Array]:
    """Such that normalised inputs are inputs * factor + shift, [C] each.

    XLA computes them once and for all if the four arrays are constants.
    """
    factor = scale * lax.rsqrt(variance + epsilon)
    return factor, bias - mean * factor
