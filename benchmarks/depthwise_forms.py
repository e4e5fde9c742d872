"""Depthwise convolutions as shifted multiply-adds, which XLA makes one loop of: candidates for GPUs.

`SHIFTED` takes them for all layers. `MIXED` takes them where `benchmarks.gpu` found them faster than XLA's grouped
convolution on an H200: for strides and for maps of a few pixels, and never for the gradient of the kernel.
"""

import functools

import jax
import jax.numpy as jnp

from mobilenets_jax.ops.conv import ConvOptions, convolve_plainly
from mobilenets_jax.ops.cpu.depthwise import _input_gradient, _wide
from mobilenets_jax.ops.cpu.windows import windows

SMALL_SIDE = 7  # pixels


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def depthwise_conv(
    options: ConvOptions, plain_kernel_gradient: bool, inputs: jax.Array, kernel: jax.Array
) -> jax.Array:
    """`ops.conv` where every channel is convolved with its own filter; summed in float32 or wider.

    Args:
        options: of the convolution.
        plain_kernel_gradient: whether the gradient of the kernel is that of XLA's grouped convolution.
        inputs: floating point [N, H, W, C].
        kernel: [kh, kw, 1, C].
    """
    seen = windows(inputs, kernel.shape[:2], options.stride, options.dilation, options.pads)
    return sum(_wide(window) * _wide(kernel[i, j, 0]) for (i, j), window in seen).astype(inputs.dtype)


def _forward(options, plain_kernel_gradient, inputs, kernel):
    return depthwise_conv(options, plain_kernel_gradient, inputs, kernel), (inputs, kernel)


def _backward(options, plain_kernel_gradient, residuals, output_gradient):
    inputs, kernel = residuals
    geometry = (options.stride, options.dilation, options.pads)
    inputs_gradient = _input_gradient(inputs.shape, kernel, output_gradient, *geometry)
    if plain_kernel_gradient:
        _, transposed = jax.vjp(functools.partial(convolve_plainly, options, inputs), kernel)
        return inputs_gradient, *transposed(output_gradient)
    wide_gradient = _wide(output_gradient)
    seen = windows(inputs, kernel.shape[:2], *geometry)
    taps = [jnp.sum(_wide(window) * wide_gradient, axis=(0, 1, 2)) for _, window in seen]
    return inputs_gradient, jnp.stack(taps).reshape(kernel.shape).astype(kernel.dtype)


depthwise_conv.defvjp(_forward, _backward)


def _is_depthwise(options: ConvOptions, inputs: jax.Array, kernel: jax.Array) -> bool:
    return options.groups > 1 and kernel.shape[2:] == (1, inputs.shape[-1])


def _shifted(options: ConvOptions, inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    if _is_depthwise(options, inputs, kernel):
        return depthwise_conv(options, False, inputs, kernel)
    return convolve_plainly(options, inputs, kernel)


def _mixed(options: ConvOptions, inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    is_faster = options.stride > 1 or max(inputs.shape[1:3]) <= SMALL_SIDE
    if is_faster and _is_depthwise(options, inputs, kernel):
        return depthwise_conv(options, True, inputs, kernel)
    return convolve_plainly(options, inputs, kernel)


# For `ops.marked.FORMS`.
FORMS = {'shifted': {'conv': _shifted}, 'mixed': {'conv': _mixed}}
