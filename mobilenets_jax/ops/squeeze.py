"""What squeeze-and-excitation does with images: the means of the channels, and a factor for each of them.

XLA:CPU takes one core for the means of a single image, and several times as long as the native ops.
"""

import jax
import jax.numpy as jnp

from mobilenets_jax.ops.cpu import native
from mobilenets_jax.ops.cpu.gradients import differentiated_as


def global_average_pool(inputs: jax.Array) -> jax.Array:
    """Averages `inputs` [N, H, W, C] over H and W in at least float32, to [N, C] of the input's dtype."""
    return _mean_by_native_op(inputs) if native.supports(inputs.dtype) else _mean(inputs)


def scale_channels(inputs: jax.Array, factors: jax.Array) -> jax.Array:
    """Multiplies the channels of each image of `inputs` [N, H, W, C] by its `factors` [N, C], of the same dtype."""
    return _scale_by_native_op(inputs, factors) if native.supports(inputs.dtype) else _scale(inputs, factors)


def _mean(inputs):
    accumulator = jnp.promote_types(inputs.dtype, jnp.float32)
    return jnp.mean(inputs, axis=(1, 2), dtype=accumulator).astype(inputs.dtype)


def _scale(inputs, factors):
    return inputs * factors[:, None, None, :]


@differentiated_as(_mean)
def _mean_by_native_op(inputs):
    means = jax.ShapeDtypeStruct((inputs.shape[0], inputs.shape[-1]), inputs.dtype)
    return native.call('global_average_pool', means, inputs)


@differentiated_as(_scale)
def _scale_by_native_op(inputs, factors):
    return native.call('scale_channels', inputs, inputs, factors)
