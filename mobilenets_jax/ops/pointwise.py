"""Pointwise (1x1) convolution: a matrix product over channels, or a convolution where the compiler likes that better.

On a CPU it is a matrix product with a hand-written gradient. Left to itself XLA:CPU fuses whatever computed the
activations into a transposed copy of them for the weight gradient, and then multiplies slowly; behind an optimization
barrier the same product runs on the arrays as they lie, many times faster. TPUs choose their layouts better for a
convolution.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from mobilenets_jax.errors import check_choice
from mobilenets_jax.ops import native
from mobilenets_jax.ops.affine import Affine, affine_gradients
from mobilenets_jax.ops.backend import backend


def pointwise_conv(
    inputs: jax.Array, kernel: jax.Array, *, then: Affine | None = None, implementation: str = 'auto'
) -> jax.Array:
    """Mixes the channels of every pixel: a convolution with a 1x1 kernel and stride 1.

    All implementations agree to rounding, in the value and in both gradients. They support reverse-mode
    differentiation; 'dot' has no forward mode.

    Args:
      inputs: floating point [N, H, W, C_in].
      kernel: [1, 1, C_in, C_out], of the dtype of `inputs`.
      then: what is done with the outputs, in the same pass where there is a kernel for it.
      implementation: a name in `IMPLEMENTATIONS`, or 'auto' for the one that suits the backend at trace time.

    Returns:
      [N, H, W, C_out] of the dtype of `inputs`.

    Raises:
      UserError: `implementation` is unknown.
      ValueError: the kernel does not fit the inputs.
    """
    check_choice('implementation', implementation, ('auto', *IMPLEMENTATIONS))
    if implementation == 'auto':
        by_backend = IMPLEMENTATION_FOR_BACKEND.get(backend(), 'conv')
        implementation = 'native' if native.supports(inputs.dtype) else by_backend
    channels = inputs.shape[-1]
    if kernel.ndim != 4 or kernel.shape[:3] != (1, 1, channels) or kernel.dtype != inputs.dtype:
        raise ValueError(
            f'A pointwise kernel for {inputs.dtype} inputs of {channels} channels is {inputs.dtype} '
            f'[1, 1, {channels}, C_out], not {kernel.dtype} {list(kernel.shape)}.'
        )
    if implementation == 'native' and then is not None and then.has_kernel:
        return _native_affine(then.activation, inputs, kernel, then.constants)
    outputs = IMPLEMENTATIONS[implementation](inputs, kernel)
    return outputs if then is None else then(outputs)


def _conv(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(inputs, kernel, (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


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


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _native_affine(activation: str, inputs: jax.Array, kernel: jax.Array, constants: jax.Array) -> jax.Array:
    """The kernel for CPUs. `constants` are those of an `Affine`, or [0, C_out] for none."""
    outputs, _ = _native_call(activation, inputs, kernel, constants, rows=0)
    return outputs


def _native_call(activation, inputs, kernel, constants, rows):
    native.check('pointwise_conv', inputs.dtype)
    channels = kernel.shape[3]
    shapes = [(*inputs.shape[:3], channels), (rows, channels)]
    results = [jax.ShapeDtypeStruct(shape, inputs.dtype) for shape in shapes]
    number = native.ACTIVATIONS[activation]
    return native.call('pointwise', results, inputs, kernel[0, 0], constants, activation=number)


def _native(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    return _native_affine('linear', inputs, kernel, jnp.zeros((0, kernel.shape[3]), kernel.dtype))


def with_sums(inputs: jax.Array, kernel: jax.Array) -> list[jax.Array]:
    """The outputs of the kernel for CPUs, and the sums of them and of their squares over N, H, W: [2, C_out]."""
    return _native_call('linear', inputs, kernel, jnp.zeros((0, kernel.shape[3]), kernel.dtype), rows=2)


def _native_forward(activation, *arrays):
    return _native_affine(activation, *arrays), arrays


def _native_backward(activation, arrays, output_gradient):
    inputs, kernel, constants = arrays
    if constants.size > 0:
        return affine_gradients(_native, activation, arrays, output_gradient)
    kernel_gradient = native.call('pointwise_kernel_gradient', kernel[0, 0], inputs, output_gradient)
    input_gradient = _native(output_gradient, kernel.swapaxes(2, 3))
    return input_gradient, kernel_gradient.reshape(kernel.shape), constants


_native_affine.defvjp(_native_forward, _native_backward)


# Each takes (inputs, kernel). A config that names one is checked against these keys and 'auto'.
IMPLEMENTATIONS: dict[str, Callable[..., jax.Array]] = {'conv': _conv, 'dot': _dot, 'native': _native}
IMPLEMENTATION_FOR_BACKEND = {'cpu': 'dot', 'gpu': 'conv', 'tpu': 'conv'}
