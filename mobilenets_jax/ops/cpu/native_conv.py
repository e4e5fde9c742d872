"""Convolutions by the native ops for CPUs: the calls, and their gradients."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mobilenets_jax.errors import UserError
from mobilenets_jax.ops.conv import ConvOptions, Pads, convolve_plainly
from mobilenets_jax.ops.cpu import native
from mobilenets_jax.ops.cpu.batch_norm import sum_constants
from mobilenets_jax.ops.cpu.normalization import Normalization, gradients_of_both

NOTHING = (0.0, 'linear')  # options of no `Normalization`


class Geometry(NamedTuple):
    """A convolution without its arrays.

    Attributes:
        depthwise: whether every channel is convolved by itself, with a kernel [kh, kw, 1, C]; otherwise those of a
            group are mixed, by a kernel [kh, kw, C_in / groups, C_out].
        stride: step between outputs, the same along H and W.
        dilation: step between the taps of the kernel, the same along H and W.
        pads: zeros around the images.
        groups: of a convolution that is not depthwise.
        shuffled: whether group g mixes every groups-th channel from g on, instead of a contiguous part.
    """

    depthwise: bool
    stride: int = 1
    dilation: int = 1
    pads: Pads = ((0, 0), (0, 0))
    groups: int = 1
    shuffled: bool = False

    def sees_through_norms(self, kernel: jax.Array) -> bool:
        """Whether the native ops can normalise what they read, in place of a batch norm before the convolution."""
        return self.depthwise or self.is_pointwise(kernel)

    def is_pointwise(self, kernel: jax.Array) -> bool:
        """Whether each output mixes all channels of the pixel in its place."""
        in_place = self.stride == 1 and self.pads == ((0, 0), (0, 0))
        return not self.depthwise and self.groups == 1 and in_place and kernel.shape[:2] == (1, 1)

    def convolve_by_xla(self, inputs: jax.Array, kernel: jax.Array) -> jax.Array:
        """The convolution that XLA has for it, on any device and for any floating dtype."""
        if self.shuffled:
            *image, channels = inputs.shape
            inputs = inputs.reshape(*image, -1, self.groups).swapaxes(-1, -2).reshape(*image, channels)
        groups = inputs.shape[-1] if self.depthwise else self.groups
        return convolve_plainly(ConvOptions(self.stride, self.dilation, self.pads, groups), inputs, kernel)

    @property
    def name(self) -> str:
        """Of its kernels."""
        if self.depthwise:
            return 'depthwise'
        return 'dense' if self.groups == 1 else 'grouped'

    @property
    def numbers(self) -> dict[str, int]:
        """As the native ops take them."""
        if self.name == 'grouped':
            return {'groups': self.groups, 'shuffled': int(self.shuffled)}
        top, left = self.pads[0][0], self.pads[1][0]
        return {'stride': self.stride, 'dilation': self.dilation, 'top': top, 'left': left}


def has_native_op(geometry: Geometry, inputs: jax.Array, kernel: jax.Array) -> bool:
    """Whether there is a native op for a convolution of these arrays, and the current trace is for a CPU."""
    if geometry.name == 'grouped' and (max(kernel.shape[:2]) > 1 or inputs.dtype == jnp.bfloat16):
        return False
    return max(kernel.shape[:2]) <= native.MAX_TAPS and native.supports(inputs.dtype)


def convolve(geometry: Geometry, inputs: jax.Array, kernel: jax.Array, then: Normalization | None = None) -> jax.Array:
    """Convolves.

    Args:
      geometry: the kind of convolution.
      inputs: of a dtype that `native.supports`, [N, H, W, C_in].
      kernel: see `Geometry`, of the dtype of `inputs`.
      then: is applied in the same pass if the native ops know its activation.

    Returns:
      [N, H', W', C_out] of the dtype of `inputs`.

    Raises:
      UserError: there is no native op for this.
    """
    none = np.zeros(0, inputs.dtype)
    if then is None or then.activation not in native.ACTIVATIONS:
        outputs = _convolve(geometry, NOTHING, inputs, kernel, none, *nothing(kernel))
        return outputs if then is None else then(outputs)
    if can_add(geometry, then):
        return _convolve(geometry, then.options, inputs, kernel, then.residual, *then.arrays)
    return then.added_to(_convolve(geometry, then.options, inputs, kernel, none, *then.arrays))


def can_add(geometry: Geometry, then: Normalization) -> bool:
    """Whether there is a residual, and the native op adds it."""
    return then.residual is not None and then.activation == 'linear' and geometry.name == 'dense'


def with_sums(
    geometry: Geometry, inputs: jax.Array, kernel: jax.Array, before: Normalization | None = None
) -> list[jax.Array]:
    """The outputs, and the wide sums of them and of their squares over N, H', W': [2, C_out]. It has no gradient.

    Args:
      geometry: see `convolve`, like the next two.
      inputs: see there.
      kernel: see there.
      before: is applied to the inputs where they are read; only if the geometry `sees_through_norms`.
    """
    return _call(geometry, NOTHING, inputs, kernel, np.zeros(0, inputs.dtype), *nothing(kernel), rows=2, before=before)


def nothing(kernel: jax.Array) -> list[np.ndarray]:
    """In place of the arrays of a `Normalization`, where the native ops shall apply none."""
    return [np.zeros(0, native.wide_dtype(kernel.dtype))] * 4


def has_norm_gradients(geometry: Geometry, inputs: jax.Array, kernel: jax.Array, activation: str) -> bool:
    """Whether `norm_gradients` can be computed for this convolution and activation."""
    return has_native_op(geometry, inputs, kernel) and activation in native.ACTIVATIONS


def norm_gradients(
    geometry: Geometry,
    activation: str,
    inputs: jax.Array,
    kernel: jax.Array,
    outputs: jax.Array,
    gradients: jax.Array,
    constants: jax.Array,
    before: Normalization | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """The gradients of a convolution that a batch norm follows.

    Args:
      geometry: the kind of convolution.
      activation: of the batch norm.
      inputs: of the convolution, [N, H, W, C_in], or of `before`.
      kernel: see `Geometry`.
      outputs: of the convolution, [N, H', W', C_out].
      gradients: of the batch norm's outputs, like `outputs`.
      constants: [6, C_out], see `batch_norm.gradient_constants`.
      before: another batch norm, whose outputs the convolution sees, see `with_sums`.

    Returns:
      Those of what it sees, [N, H, W, C_in]; those of the kernel; and the `batch_norm.gradient_sums` of `before`, if
      there is one.
    """
    options = {'statistics': [constants], 'activation': activation}
    name, numbers = geometry.name, geometry.numbers
    if geometry.is_pointwise(kernel):
        name, numbers = 'pointwise', {}
    elif name == 'dense':
        gradients = native.call('norm_gradient_apply', outputs, outputs, gradients, **options)
        return *_gradients(geometry, inputs, kernel, gradients), None
    results, arrays = [inputs, kernel], (inputs, kernel, outputs, gradients)
    if geometry.sees_through_norms(kernel):
        wide = native.wide_dtype(inputs.dtype)
        results.append(jax.ShapeDtypeStruct((0 if before is None else 2, inputs.shape[-1]), wide))
        options['statistics'].append(np.zeros(0, wide) if before is None else sum_constants(before))
        numbers |= {'activation_before': native.ACTIVATIONS['linear' if before is None else before.activation]}
    of_inputs, of_kernel, *sums = native.call(f'{name}_norm_gradient', results, *arrays, **options, **numbers)
    return of_inputs, of_kernel, None if before is None else sums[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _convolve(geometry, options, *arrays):
    outputs, _ = _call(geometry, options, *arrays, rows=0)
    return outputs


def _forward(geometry, options, *arrays):
    return _convolve(geometry, options, *arrays), arrays


def _backward(geometry, options, arrays, gradient):
    inputs, kernel, residual, *statistics = arrays
    of_residual = gradient if residual.size > 0 else residual
    if statistics[0].size > 0:
        conv = functools.partial(convolve, geometry)
        of_inputs, of_kernel, *of_statistics = gradients_of_both(conv, options, inputs, kernel, statistics, gradient)
        return of_inputs, of_kernel, of_residual, *of_statistics
    return *_gradients(geometry, inputs, kernel, gradient), of_residual, *statistics


_convolve.defvjp(_forward, _backward)


def _gradients(geometry, inputs, kernel, gradient):
    if geometry.depthwise:
        return native.call('depthwise_gradient', (inputs, kernel), inputs, kernel, gradient, **geometry.numbers)
    if geometry.groups > 1:
        # The native op has a batch norm: one that does nothing has the `gradient_constants` of factor and slope 1.
        constants = np.zeros((6, kernel.shape[-1]), native.wide_dtype(kernel.dtype))
        constants[[0, 3]] = 1
        return norm_gradients(geometry, 'linear', inputs, kernel, gradient, gradient, constants)[:2]
    kernel_gradient = native.call('dense_kernel_gradient', kernel, inputs, gradient, **geometry.numbers)
    return _dense_input_gradient(geometry, inputs, kernel, gradient), kernel_gradient


def _dense_input_gradient(geometry, inputs, kernel, gradient):
    if geometry.stride > 1:  # a network's first, whose input gradient is not used, or one of few
        return jax.linear_transpose(lambda inputs: geometry.convolve_by_xla(inputs, kernel), inputs)(gradient)[0]
    pads = []
    for size, out_size, taps, (low, _) in zip(
        inputs.shape[1:3], gradient.shape[1:3], kernel.shape[:2], geometry.pads, strict=True
    ):
        before = (taps - 1) * geometry.dilation - low
        pads.append((before, size + low - out_size))
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return convolve(geometry._replace(pads=tuple(pads)), gradient, turned)


def _call(geometry, options, *arrays, rows, before=None):
    inputs, kernel, residual, *statistics = arrays
    native.check(f'{geometry.name}_conv', inputs.dtype)
    if not has_native_op(geometry, inputs, kernel):
        raise UserError(
            f"implementation='native' takes up to {native.MAX_TAPS} taps, and in groups 1 and no bfloat16, "
            f'not {kernel.shape[:2]} of {inputs.dtype}.'
        )
    sizes = [
        (size + sum(pad) - (taps - 1) * geometry.dilation - 1) // geometry.stride + 1
        for size, taps, pad in zip(inputs.shape[1:3], kernel.shape[:2], geometry.pads, strict=True)
    ]
    channels = kernel.shape[3]
    outputs = jax.ShapeDtypeStruct((inputs.shape[0], *sizes, channels), inputs.dtype)
    totals = jax.ShapeDtypeStruct((rows, channels), native.wide_dtype(inputs.dtype))
    then = Normalization(*statistics, *options)
    factors, numbers = then.factor_and_shift(), {'activation': then.activation, **geometry.numbers}
    if geometry.name == 'grouped':
        arrays = (inputs, kernel)
    else:
        arrays = (inputs, kernel) if geometry.depthwise else (inputs, kernel, residual)
        before = Normalization(*nothing(kernel), *NOTHING) if before is None else before
        factors += before.factor_and_shift()
        numbers['activation_before'] = native.ACTIVATIONS[before.activation]
    return native.call(geometry.name, [outputs, totals], *arrays, statistics=factors, **numbers)
