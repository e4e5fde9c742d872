"""Depthwise convolution: one function, and one implementation for each kind of device.

XLA:CPU runs a grouped `conv_general_dilated` with as many groups as channels one to two orders of magnitude below what
the memory allows. There it is a native op of this project (`ops.cpu.native`) or, where that cannot be used, the same
sum as kh * kw shifted multiply-adds, which XLA fuses into a single loop over channels. Its hand-written gradient has
the same form in all of its three passes. GPUs and TPUs have fast grouped convolutions of their own and keep them.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from mobilenets_jax.ops.backend import chosen
from mobilenets_jax.ops.conv import Pads, explicit_pads
from mobilenets_jax.ops.cpu.native_conv import Geometry, convolve, has_native_op
from mobilenets_jax.ops.cpu.normalization import Normalization
from mobilenets_jax.ops.cpu.sums import sum_together
from mobilenets_jax.ops.cpu.windows import pad_images, windows


def depthwise_conv(
    inputs: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: str | Sequence[tuple[int, int]] = 'SAME',
    then: Normalization | None = None,
    implementation: str = 'auto',
) -> jax.Array:
    """Convolves every channel with its own filter (channel multiplier 1).

    All implementations agree to rounding, in the value and in both gradients. They support reverse-mode
    differentiation; 'shifted' has no forward mode.

    Args:
      inputs: floating point [N, H, W, C].
      kernel: [kh, kw, 1, C], of the dtype of `inputs`.
      stride: step between outputs, the same along H and W.
      dilation: step between the taps of the kernel, the same along H and W.
      padding: 'SAME' (as TensorFlow, so asymmetric when the total is odd), 'VALID', or ((top, bottom), (left, right)).
      then: the epilogue on the outputs, in the same pass if there is a native op for it.
      implementation: a name in `IMPLEMENTATIONS`, or 'auto' for the one that suits the backend at trace time.

    Returns:
      [N, H', W', C] of the dtype of `inputs`, summed in float32 or wider by 'shifted'.

    Raises:
      UserError: `implementation` is unknown.
      ValueError: the kernel does not fit the inputs.
    """
    pads = explicit_pads(padding, inputs.shape[1:3], kernel.shape[:2], stride, dilation)
    geometry = Geometry(True, stride, dilation, pads)
    there = has_native_op(geometry, inputs, kernel)
    implementation = chosen(implementation, IMPLEMENTATIONS, IMPLEMENTATION_FOR_BACKEND, has_native_op=there)
    channels = inputs.shape[-1]
    if kernel.shape[2:] != (1, channels) or kernel.dtype != inputs.dtype:
        raise ValueError(
            f'A depthwise kernel for {inputs.dtype} inputs of {channels} channels is {inputs.dtype} '
            f'[kh, kw, 1, {channels}], not {kernel.dtype} {list(kernel.shape)}.'
        )
    if implementation == 'native':
        return convolve(geometry, inputs, kernel, then)
    outputs = PLAIN[implementation](inputs, kernel, stride, dilation, pads)
    return outputs if then is None else then(outputs)


def _grouped(inputs: jax.Array, kernel: jax.Array, stride: int, dilation: int, pads: Pads) -> jax.Array:
    return Geometry(True, stride, dilation, pads).convolve_by_xla(inputs, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _shifted(inputs: jax.Array, kernel: jax.Array, stride: int, dilation: int, pads: Pads) -> jax.Array:
    seen = windows(inputs, kernel.shape[:2], stride, dilation, pads)
    return sum(_wide(window) * _wide(kernel[i, j, 0]) for (i, j), window in seen).astype(inputs.dtype)


def _shifted_forward(inputs, kernel, stride, dilation, pads):
    return _shifted(inputs, kernel, stride, dilation, pads), (inputs, kernel)


def _shifted_backward(stride, dilation, pads, residuals, output_gradient):
    inputs, kernel = residuals
    return (
        _input_gradient(inputs.shape, kernel, output_gradient, stride, dilation, pads),
        _kernel_gradient(inputs, kernel, output_gradient, stride, dilation, pads),
    )


_shifted.defvjp(_shifted_forward, _shifted_backward)


def _wide(array: jax.Array) -> jax.Array:
    """Returns `array` in the dtype sums are accumulated in: float32, or float64 if it is that already."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _kernel_gradient(inputs, kernel, output_gradient, stride, dilation, pads):
    """Sums over N, H', W' the inputs of each tap, times the gradient of the outputs: [kh, kw, 1, C].

    The taps of a kernel row share one reduction over W', so that a row of the inputs is read while it is in the cache:
    five to ten times faster on a CPU than one full reduction for each tap.
    """
    wide_gradient = _wide(output_gradient)
    seen = windows(inputs, kernel.shape[:2], stride, dilation, pads)
    products = [_wide(window) * wide_gradient for _, window in seen]
    row_sums = []  # [N, H', C] for each tap
    for start in range(0, len(products), kernel.shape[1]):
        row_sums += sum_together(products[start : start + kernel.shape[1]], axis=2)
    taps = [jnp.sum(row_sum, axis=(0, 1)) for row_sum in row_sums]
    return jnp.stack(taps).reshape(kernel.shape).astype(kernel.dtype)


def _input_gradient(input_shape, kernel, output_gradient, stride, dilation, pads):
    """Correlates the output gradient with the flipped kernel, once for each phase of the stride.

    Output o reads input o * stride + i * dilation - pad through tap i. So the inputs a * stride + phase are reached by
    the taps for which phase + pad - i * dilation is a multiple of the stride, each from output a + that multiple. Phase
    by phase there are no zeros to multiply, as there would be in a gradient spread out to the size of the input.
    """
    batch, height, width, channels = input_shape
    counts = (-(-height // stride), -(-width // stride))  # inputs in the first phase, the longest
    taps = [_taps_by_phase(kernel.shape[axis], stride, dilation, pads[axis][0]) for axis in (0, 1)]
    reach = []
    for axis in (0, 1):
        shifts = [shift for phase in taps[axis] for _, shift in phase]
        reach.append((-min(shifts), counts[axis] + max(shifts) - output_gradient.shape[1 + axis]))
    padded = pad_images(output_gradient, tuple(reach))

    def phase_gradient(row_taps, column_taps):
        total = jnp.zeros((batch, *counts, channels), jnp.promote_types(kernel.dtype, jnp.float32))
        for i, row_shift in row_taps:
            for j, column_shift in column_taps:
                top, left = row_shift + reach[0][0], column_shift + reach[1][0]
                window = lax.slice(padded, (0, top, left, 0), (batch, top + counts[0], left + counts[1], channels))
                total += _wide(window) * _wide(kernel[i, j, 0])
        return total.astype(output_gradient.dtype)

    phases = [jnp.stack([phase_gradient(rows, columns) for columns in taps[1]], axis=3) for rows in taps[0]]
    interleaved = jnp.stack(phases, axis=2)  # [N, H / stride, stride, W / stride, stride, C]
    interleaved = interleaved.reshape(batch, counts[0] * stride, counts[1] * stride, channels)
    return interleaved[:, :height, :width]


def _taps_by_phase(kernel_size: int, stride: int, dilation: int, pad: int) -> list[list[tuple[int, int]]]:
    """Lists, for every phase along one axis, the (tap, shift of the output it comes from) that reach it."""
    return [
        [
            (tap, (phase + pad - tap * dilation) // stride)
            for tap in range(kernel_size)
            if (phase + pad - tap * dilation) % stride == 0
        ]
        for phase in range(stride)
    ]


PLAIN: dict[str, Callable[[jax.Array, jax.Array, int, int, Pads], jax.Array]] = {
    'grouped': _grouped,
    'shifted': _shifted,
}
# A config that names one is checked against these and 'auto'.
IMPLEMENTATIONS = (*PLAIN, 'native')
# Where there is no native op for the CPU.
IMPLEMENTATION_FOR_BACKEND = {'cpu': 'shifted', 'gpu': 'grouped', 'tpu': 'grouped'}
