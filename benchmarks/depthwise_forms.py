"""A depthwise convolution as shifted multiply-adds, which XLA makes one loop of: for GPUs, if it is faster there."""

import functools

import jax
import jax.numpy as jnp

from mobilenets_jax.ops.conv import ConvOptions, convolve_plainly
from mobilenets_jax.ops.cpu.depthwise import _input_gradient, _wide
from mobilenets_jax.ops.cpu.windows import windows


def _conv(options: ConvOptions, inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    depthwise = options.groups > 1 and kernel.shape[2:] == (1, inputs.shape[-1])
    return depthwise_conv(options, inputs, kernel) if depthwise else convolve_plainly(options, inputs, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def depthwise_conv(options: ConvOptions, inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """`ops.conv` where every channel is convolved with its own filter; summed in float32 or wider."""
    seen = windows(inputs, kernel.shape[:2], options.stride, options.dilation, options.pads)
    return sum(_wide(window) * _wide(kernel[i, j, 0]) for (i, j), window in seen).astype(inputs.dtype)


def _forward(options, inputs, kernel):
    return depthwise_conv(options, inputs, kernel), (inputs, kernel)


def _backward(options, residuals, output_gradient):
    inputs, kernel = residuals
    geometry = (options.stride, options.dilation, options.pads)
    return (
        _input_gradient(inputs.shape, kernel, output_gradient, *geometry),
        kernel_gradient(inputs, kernel, output_gradient, *geometry),
    )


def kernel_gradient(inputs, kernel, output_gradient, stride, dilation, pads) -> jax.Array:
    """Sums over N, H', W' what each tap saw, times the gradient of what it contributed to: [kh, kw, 1, C]."""
    wide_gradient = _wide(output_gradient)
    seen = windows(inputs, kernel.shape[:2], stride, dilation, pads)
    taps = [jnp.sum(_wide(window) * wide_gradient, axis=(0, 1, 2)) for _, window in seen]
    return jnp.stack(taps).reshape(kernel.shape).astype(kernel.dtype)


depthwise_conv.defvjp(_forward, _backward)

# For `ops.marked.FORMS`.
SHIFTED = {'conv': _conv}
