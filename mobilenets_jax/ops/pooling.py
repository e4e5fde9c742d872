"""The largest and the mean of windows of pixels.

On a CPU, XLA goes through windows of the largest pixels one by one, and for the gradients of both takes ten to twenty
times as long. There the largest is one of kh * kw shifted images, and the mean a depthwise convolution. For export the
mean is one as well, since converters have no operation for windows with zeros around the image; and the image is padded
with its outermost pixels for the largest, since -inf has no place in a quantized range.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mobilenets_jax.ops.backend import EXPORT, backend
from mobilenets_jax.ops.conv import Pads, conv, explicit_pads
from mobilenets_jax.ops.cpu import native
from mobilenets_jax.ops.cpu.windows import pad_images, windows


def average_pool(inputs: jax.Array, size: int, stride: int, padding: str | Pads) -> jax.Array:
    """Averages windows of `size` x `size` pixels, in which padding counts as zeros.

    Args:
      inputs: floating point [N, H, W, C].
      size: of the windows.
      stride: step between them.
      padding: see `depthwise_conv`.

    Returns:
      [N, H', W', C] of the dtype of `inputs`.
    """
    native_op = native.supports(inputs.dtype) and inputs.dtype != jnp.bfloat16  # which has no good 1/9
    if native_op or backend() == EXPORT:
        kernel = jnp.full((size, size, 1, inputs.shape[-1]), 1 / size**2, inputs.dtype)
        return conv(inputs, kernel, stride=stride, padding=padding, groups=inputs.shape[-1])
    return nn.avg_pool(inputs, (size, size), (stride, stride), padding)


def max_pool(inputs: jax.Array, size: int, stride: int, padding: str | Pads) -> jax.Array:
    """Takes the largest of windows of `size` x `size` pixels; of several, the first has the gradient.

    Args:
      inputs: see `average_pool`.
      size: of the windows.
      stride: step between them.
      padding: see `depthwise_conv`; each window has pixels of the image.

    Returns:
      [N, H', W', C] of the dtype of `inputs`.
    """
    pads = explicit_pads(padding, inputs.shape[1:3], (size, size), stride, dilation=1)
    if backend() == 'cpu':
        return _shifted(inputs, size, stride, pads)
    if backend() == EXPORT and padding not in ('SAME', 'VALID'):
        return _of_repeated_edges(inputs, size, stride, pads)
    return nn.max_pool(inputs, (size, size), (stride, stride), padding)


def _of_repeated_edges(inputs: jax.Array, size: int, stride: int, pads: Pads) -> jax.Array:
    """The same largest pixels: a window with a repeated pixel has the pixel itself, as pads are below `size`."""
    padded = jnp.pad(inputs, ((0, 0), *_reached(inputs.shape[1:3], size, stride, pads), (0, 0)), mode='edge')
    return nn.max_pool(padded, (size, size), (stride, stride), 'VALID')


def _reached(shape: Sequence[int], size: int, stride: int, pads: Pads) -> Pads:
    """`pads` without what no window reaches."""
    reached = []
    for length, (low, high) in zip(shape, pads, strict=True):
        last = (low + length + high - size) // stride * stride + size  # where the last window ends
        reached.append((low, max(last - low - length, 0)))
    rows, columns = reached
    return rows, columns


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _shifted(inputs, size, stride, pads):
    return functools.reduce(jnp.maximum, [seen for _, seen in _windows(inputs, size, stride, pads)])


def _windows(inputs, size, stride, pads):
    return windows(pad_images(inputs, pads, -jnp.inf), (size, size), stride, 1, ((0, 0), (0, 0)))


def _forward(inputs, size, stride, pads):
    outputs = _shifted(inputs, size, stride, pads)
    return outputs, (inputs, outputs)


def _backward(size, stride, pads, residuals, gradient):
    """Pixel a * stride + phase of the padded inputs is seen by tap `phase` of window a, or by taps of those before.

    So the gradients of each phase are a sum at the size of the outputs, and the phases are interleaved in the end.
    """
    inputs, outputs = residuals
    reach = (size - 1) // stride  # how many windows further the last tap's pixels begin
    taken = jnp.zeros(outputs.shape, bool)
    phases: list[list[Any]] = [[0] * stride for _ in range(stride)]
    for (i, j), seen in _windows(inputs, size, stride, pads):
        part = jnp.where((seen == outputs) & ~taken, gradient, 0)
        taken |= seen == outputs
        (a, row), (b, column) = divmod(i, stride), divmod(j, stride)
        phases[row][column] += pad_images(part, ((a, reach - a), (b, reach - b)))
    rows = [jnp.stack([jnp.broadcast_to(phase, phases[0][0].shape) for phase in row], axis=3) for row in phases]
    interleaved = jnp.stack(rows, axis=2)  # [N, H' + reach, stride, W' + reach, stride, C]
    batch, height, _, width, _, channels = interleaved.shape
    interleaved = interleaved.reshape(batch, height * stride, width * stride, channels)
    crops = [(-pads[k][0], inputs.shape[1 + k] + pads[k][0] - interleaved.shape[1 + k]) for k in (0, 1)]
    return (pad_images(interleaved, (crops[0], crops[1])),)


_shifted.defvjp(_forward, _backward)
