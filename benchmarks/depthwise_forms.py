"""Depthwise convolutions as shifted multiply-adds, which XLA makes one loop of: candidates for GPUs.

'shifted' of `FORMS` takes them for all layers. 'mixed' takes them where `benchmarks.gpu` found them faster than XLA's
grouped convolution on an H200: for strides and for maps of a few pixels, and never for the gradient of the kernel.
"""

import functools

import jax
import jax.numpy as jnp

from mobilenets_jax.ops.conv import ConvOptions, convolve_plainly
from mobilenets_jax.ops.cpu.depthwise import PLAIN
from mobilenets_jax.ops.cpu.windows import windows

SMALL_SIDE = 7  # pixels


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def depthwise_conv(
    options: ConvOptions, plain_kernel_gradient: bool, inputs: jax.Array, kernel: jax.Array
) -> jax.Array:
    """`ops.conv` where every channel is convolved with its own filter, as without native ops on a CPU.

    It differs in the gradient of the kernel, where CPUs sum by rows first.

    Args:
        options: of the convolution.
        plain_kernel_gradient: whether the gradient of the kernel is that of XLA's grouped convolution; else it is one
            sum for each of the kernel's taps.
        inputs: floating point [N, H, W, C].
        kernel: [kh, kw, 1, C].
    """
    return PLAIN['shifted'](inputs, kernel, options.stride, options.dilation, options.pads)


def _forward(options, plain_kernel_gradient, inputs, kernel):
    return depthwise_conv(options, plain_kernel_gradient, inputs, kernel), (inputs, kernel)


def _backward(options, plain_kernel_gradient, residuals, output_gradient):
    inputs, kernel = residuals
    geometry = (options.stride, options.dilation, options.pads)
    (inputs_gradient,) = jax.vjp(lambda inputs: PLAIN['shifted'](inputs, kernel, *geometry), inputs)[1](output_gradient)
    if plain_kernel_gradient:
        _, transposed = jax.vjp(functools.partial(convolve_plainly, options, inputs), kernel)
        return inputs_gradient, *transposed(output_gradient)
    wide = jnp.promote_types(inputs.dtype, jnp.float32)
    products = (
        window.astype(wide) * output_gradient.astype(wide) for _, window in windows(inputs, kernel.shape[:2], *geometry)
    )
    taps = jnp.stack([jnp.sum(product, axis=(0, 1, 2)) for product in products])
    return inputs_gradient, taps.reshape(kernel.shape).astype(kernel.dtype)


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
