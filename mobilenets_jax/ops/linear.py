"""Products of vectors of channels with a matrix: dense layers, and the two of squeeze-and-excitation.

XLA:CPU takes one core for the product of a few vectors. Most of its time goes into reading the weights, which the
native ops for CPUs (`ops.cpu.native`) divide among the cores. For export, the product of all pixels of an image is
written as the 1x1 convolution that it is: the converter fails at other products that are followed by a reshape.
"""

import jax
import jax.numpy as jnp
from jax import lax

from mobilenets_jax.ops.backend import EXPORT, backend
from mobilenets_jax.ops.conv import conv
from mobilenets_jax.ops.cpu import native
from mobilenets_jax.ops.cpu.gradients import differentiated_as
from mobilenets_jax.ops.cpu.native_conv import Geometry, convolve


def dense_product(
    inputs: jax.Array,
    kernel: jax.Array,
    dimension_numbers: lax.DotDimensionNumbers,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """`lax.dot_general` as `flax.linen.Dense` calls it.

    Args:
      inputs: floating point [..., C].
      kernel: [C, F], of the dtype of `inputs`.
      dimension_numbers: that the last axis of `inputs` is contracted with the first of `kernel`.
      precision: see `lax.dot_general`.

    Returns:
      [..., F] of the dtype of `inputs`.
    """
    if inputs.ndim == 4 and backend() == EXPORT:
        return conv(inputs, kernel[None, None])
    if precision is None and inputs.ndim == 2 and native.supports(inputs.dtype):
        return _by_native_op(inputs, kernel)
    return lax.dot_general(inputs, kernel, dimension_numbers, precision)


@differentiated_as(jnp.dot)
def _by_native_op(inputs, kernel):
    return convolve(Geometry(depthwise=False), inputs[:, None, None], kernel[None, None])[:, 0, 0]
