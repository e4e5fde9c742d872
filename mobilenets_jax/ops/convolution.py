"""The convolutions of the family as one kind of thing, and each with the batch norm behind it."""

import dataclasses
import functools
from collections.abc import Sequence

import jax

from mobilenets_jax.ops.batch_norm import batch_norm, gradient_constants, statistics
from mobilenets_jax.ops.dense import dense_conv
from mobilenets_jax.ops.depthwise import depthwise_conv
from mobilenets_jax.ops.grouped import pointwise_conv_in_groups
from mobilenets_jax.ops.native_conv import Geometry, has_norm_gradients, norm_gradients, with_sums
from mobilenets_jax.ops.normalization import Normalization
from mobilenets_jax.ops.windows import explicit_pads


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolution:
    """A convolution but for its kernel.

    Attributes:
        depthwise: whether every channel is convolved by itself.
        groups: of channels; more than 1 only with 1x1 kernels, see `pointwise_conv_in_groups`.
        shuffled: see there.
        stride: step between outputs, the same along H and W.
        dilation: step between the taps of the kernel, the same along H and W.
        padding: 'SAME', 'VALID' or ((top, bottom), (left, right)).
        implementation: of a depthwise convolution, see `depthwise_conv`, or one in groups: of the same names, where
            'shifted' asks for 'split' of `pointwise_conv_in_groups`.
    """

    depthwise: bool
    groups: int = 1
    shuffled: bool = False
    stride: int = 1
    dilation: int = 1
    padding: str | Sequence[tuple[int, int]] = 'SAME'
    implementation: str = 'auto'

    def __call__(self, inputs: jax.Array, kernel: jax.Array, then: Normalization | None = None) -> jax.Array:
        """Convolves `inputs` [N, H, W, C_in] to [N, H', W', C_out]; `then` is applied in the same pass where it can."""
        geometry = {'stride': self.stride, 'dilation': self.dilation, 'padding': self.padding, 'then': then}
        if self.depthwise:
            return depthwise_conv(inputs, kernel, implementation=self.implementation, **geometry)
        if self.groups > 1:
            implementation = 'split' if self.implementation == 'shifted' else self.implementation
            groups = {'groups': self.groups, 'shuffled': self.shuffled}
            return pointwise_conv_in_groups(inputs, kernel, then=then, implementation=implementation, **groups)
        return dense_conv(inputs, kernel, **geometry)

    def geometry(self, inputs: jax.Array, kernel: jax.Array) -> Geometry:
        """As the kernels for CPUs take it."""
        pads = explicit_pads(self.padding, inputs.shape[1:3], kernel.shape[:2], self.stride, self.dilation)
        return Geometry(self.depthwise, self.stride, self.dilation, pads, self.groups, self.shuffled)


def conv_norm(
    convolution: Convolution,
    inputs: jax.Array,
    kernel: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    epsilon: float,
    activation: str,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Convolves, and normalises by the statistics of the batch as `batch_norm` does.

    Where there are kernels for the two together, the statistics are summed while the outputs are made, and the
    gradients of the convolution's outputs never leave the cache.

    Args:
      convolution: without its kernel.
      inputs: floating point [N, H, W, C_in].
      kernel: [kh, kw, C_in / groups or 1, C], of the dtype of `inputs`.
      scale: see `batch_norm`, like all that follow.
      bias: see there.
      epsilon: see there.
      activation: see there.
      axis_name: see there.

    Returns:
      The outputs, [N, H', W', C] of the dtype of `inputs`; mean and (biased) variance, [C] of the dtype of `scale`,
      which carry no gradient.
    """
    options = (epsilon, activation, axis_name)
    geometry = convolution.geometry(inputs, kernel)
    may_be_native = convolution.implementation in ('auto', 'native')
    if may_be_native and has_norm_gradients(geometry, inputs, kernel, activation):
        return _conv_norm(geometry, options, inputs, kernel, scale, bias)
    outputs = convolution(inputs, kernel)
    return batch_norm(outputs, scale, bias, epsilon=epsilon, activation=activation, axis_name=axis_name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _conv_norm(geometry, options, inputs, kernel, scale, bias):
    return _forward(geometry, options, inputs, kernel, scale, bias)[0]


def _forward(geometry, options, inputs, kernel, scale, bias):
    epsilon, activation, axis_name = options
    outputs, sums = with_sums(geometry, inputs, kernel)
    mean, variance = statistics(sums, outputs, axis_name)
    normalize = Normalization(scale, bias, mean, variance, epsilon, activation)
    return (normalize(outputs), mean, variance), (inputs, kernel, outputs, scale, bias, mean, variance)


def _backward(geometry, options, saved, gradients):
    inputs, kernel, outputs, *parameters = saved
    constants, scale_gradient, bias_gradient = gradient_constants(outputs, gradients[0], parameters, *options)
    activation = options[1]
    convolved = norm_gradients(geometry, activation, inputs, kernel, outputs, gradients[0], constants)
    return *convolved, scale_gradient, bias_gradient


_conv_norm.defvjp(_forward, _backward)
