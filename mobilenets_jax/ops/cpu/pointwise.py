"""Pointwise (1x1) convolution: a matrix product over channels, or a convolution where the compiler runs that faster.

On a CPU it is a native op of this project (`ops.cpu.native`) or, where that cannot be used, a matrix product with a
hand-written gradient. By default XLA:CPU fuses the operation that computed the activations into a transposed copy of
them for the weight gradient, and then multiplies slowly. After an optimization barrier the same product reads the
arrays in place, many times faster. TPUs choose better layouts for a convolution.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from mobilenets_jax.ops.backend import chosen
from mobilenets_jax.ops.cpu import native
from mobilenets_jax.ops.cpu.native_conv import Geometry, convolve
from mobilenets_jax.ops.cpu.normalization import Normalization


def pointwise_conv(
    inputs: jax.Array, kernel: jax.Array, *, then: Normalization | None = None, implementation: str = 'auto'
) -> jax.Array:
    """Mixes the channels of every pixel: a convolution with a 1x1 kernel and stride 1.

    All implementations agree to rounding, in the value and in both gradients. They support reverse-mode
    differentiation; 'dot' has no forward mode.

    Args:
      inputs: floating point [N, H, W, C_in].
      kernel: [1, 1, C_in, C_out], of the dtype of `inputs`.
      then: the epilogue on the outputs, in the same pass if there is a native op for it.
      implementation: a name in `IMPLEMENTATIONS`, or 'auto' for the one that suits the backend at trace time.

    Returns:
      [N, H, W, C_out] of the dtype of `inputs`.

    Raises:
      UserError: `implementation` is unknown.
      ValueError: the kernel does not fit the inputs.
    """
    has_native_op = native.supports(inputs.dtype)
    implementation = chosen(implementation, IMPLEMENTATIONS, IMPLEMENTATION_FOR_BACKEND, has_native_op=has_native_op)
    channels = inputs.shape[-1]
    if kernel.ndim != 4 or kernel.shape[:3] != (1, 1, channels) or kernel.dtype != inputs.dtype:
        raise ValueError(
            f'A pointwise kernel for {inputs.dtype} inputs of {channels} channels is {inputs.dtype} '
            f'[1, 1, {channels}, C_out], not {kernel.dtype} {list(kernel.shape)}.'
        )
    if implementation == 'native':
        return convolve(Geometry(depthwise=False), inputs, kernel, then)
    outputs = PLAIN[implementation](inputs, kernel)
    return outputs if then is None else then(outputs)


def _conv(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    return Geometry(depthwise=False).convolve_by_xla(inputs, kernel)


@jax.custom_vjp
def _dot(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.dot(inputs, kernel[0, 0])


def _dot_forward(inputs, kernel):
    return _dot(inputs, kernel), (inputs, kernel)


def _dot_backward(residuals, output_gradient):
    inputs, kernel = residuals
    pixels = inputs.reshape(-1, inputs.shape[-1])  # [N * H * W, C_in]
    pixel_gradients = output_gradient.reshape(-1, output_gradient.shape[-1])  # [N * H * W, C_out]
    pixels, pixel_gradients = lax.optimization_barrier((pixels, pixel_gradients))
    input_gradient = jnp.dot(pixel_gradients, kernel[0, 0].T).reshape(inputs.shape)
    accumulation_dtype = jnp.promote_types(kernel.dtype, jnp.float32)
    kernel_gradient = jnp.dot(pixels.T, pixel_gradients, preferred_element_type=accumulation_dtype)
    return input_gradient, kernel_gradient.astype(kernel.dtype).reshape(kernel.shape)


_dot.defvjp(_dot_forward, _dot_backward)


PLAIN: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {'conv': _conv, 'dot': _dot}
# A config that names one is checked against these and 'auto'.
IMPLEMENTATIONS = (*PLAIN, 'native')
IMPLEMENTATION_FOR_BACKEND = {'cpu': 'dot', 'gpu': 'conv', 'tpu': 'conv'}  # where there are no native ops for the CPU
