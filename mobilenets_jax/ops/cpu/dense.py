"""Convolution of all channels with all, such as a network's first.

On a CPU it is a native op of this project (`ops.cpu.native`): a matrix product of the input pixels of each output, a
block of outputs at a time, with the weights. Where the native op cannot be used and the inputs have few channels, all
of those pixels are written to an array first: XLA:CPU computes its own convolution, and the gradient of the kernel,
many times slower there.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mobilenets_jax.ops.backend import backend
from mobilenets_jax.ops.conv import explicit_pads
from mobilenets_jax.ops.cpu.native_conv import Geometry, convolve, has_native_op
from mobilenets_jax.ops.cpu.normalization import Normalization
from mobilenets_jax.ops.cpu.pointwise import pointwise_conv
from mobilenets_jax.ops.cpu.windows import windows

MAX_SEEN = 64  # input values of one output; for more, XLA:CPU's own convolution is as fast as that


def dense_conv(
    inputs: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: str | Sequence[tuple[int, int]] = 'SAME',
    then: Normalization | None = None,
) -> jax.Array:
    """Convolves with a kernel that mixes all channels: arguments and outputs as of `ops.conv`.

    What `then` says is done with the outputs, in the same pass where there is a native op for it.
    """
    *taps, channels, features = kernel.shape
    pads = explicit_pads(padding, inputs.shape[1:3], taps, stride, dilation)
    geometry = Geometry(False, stride, dilation, pads)
    if geometry.is_pointwise(kernel):
        return pointwise_conv(inputs, kernel, then=then)
    if has_native_op(geometry, inputs, kernel):
        return convolve(geometry, inputs, kernel, then)
    if backend() == 'cpu' and taps[0] * taps[1] * channels <= MAX_SEEN:
        seen = jnp.concatenate([window for _, window in windows(inputs, taps, stride, dilation, pads)], axis=-1)
        return pointwise_conv(seen, kernel.reshape(1, 1, -1, features), then=then)
    outputs = geometry.convolve_by_xla(inputs, kernel)
    return outputs if then is None else then(outputs)
