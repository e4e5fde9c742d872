"""The convolutions of the family as one kind of thing, and each with the batch norm behind it."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from mobilenets_jax.ops.conv import ConvOptions, explicit_pads
from mobilenets_jax.ops.cpu.batch_norm import batch_norm, gradient_constants, gradient_sums, statistics
from mobilenets_jax.ops.cpu.dense import dense_conv
from mobilenets_jax.ops.cpu.depthwise import depthwise_conv
from mobilenets_jax.ops.cpu.grouped import pointwise_conv_in_groups
from mobilenets_jax.ops.cpu.native_conv import Geometry, has_norm_gradients, norm_gradients, with_sums
from mobilenets_jax.ops.cpu.normalization import Normalization


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolution:
    """A convolution without its kernel.

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

    @classmethod
    def of(cls, options: ConvOptions, inputs: jax.Array, kernel: jax.Array) -> 'Convolution':
        """The one that `ops.conv` with these options is."""
        stride, dilation, pads, groups = options
        depthwise = kernel.shape[2] == 1 and groups == inputs.shape[-1] == kernel.shape[-1]
        groups = 1 if depthwise else groups
        return cls(depthwise=depthwise, groups=groups, stride=stride, dilation=dilation, padding=pads)

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
        """As the native ops for CPUs take it."""
        pads = explicit_pads(self.padding, inputs.shape[1:3], kernel.shape[:2], self.stride, self.dilation)
        return Geometry(self.depthwise, self.stride, self.dilation, pads, self.groups, self.shuffled)


class Unit(NamedTuple):
    """A convolution and the batch norm behind it.

    Attributes:
        convolution: without its kernel.
        kernel: [kh, kw, C_in / groups or 1, C], of the dtype of the inputs.
        scale: see `batch_norm`, like the next two.
        bias: see there.
        activation: see there.
    """

    convolution: Convolution
    kernel: jax.Array
    scale: jax.Array
    bias: jax.Array
    activation: str


Outputs = tuple[jax.Array, jax.Array, jax.Array]  # of `batch_norm`


def conv_norms(
    inputs: jax.Array, units: Sequence[Unit], *, epsilon: float, axis_name: str | None = None
) -> list[Outputs]:
    """Convolves by one unit after the other, and normalises by the statistics of the batch as `batch_norm` does.

    Where there are native ops for it, the statistics are summed while the outputs are made, and the gradients of the
    convolutions' outputs never leave the cache. A depthwise or pointwise convolution normalises its inputs while it
    reads them, so that the activations between two units are written and read once instead of twice. It also computes
    the sums for the gradient of the batch norm before it.

    Args:
      inputs: floating point [N, H, W, C_in].
      units: at least one.
      epsilon: see `batch_norm`.
      axis_name: see there.

    Returns:
      For each unit the outputs, [N, H', W', C] of the dtype of `inputs`; mean and (biased) variance, [C] of the dtype
      of `scale`, which carry no gradient.
    """
    results, seen = [], inputs
    while len(results) < len(units):
        some = _run_together(seen, units[len(results) :])
        if some:
            kinds = tuple((geometry, unit.activation) for geometry, unit in some)
            arrays = [(unit.kernel, unit.scale, unit.bias) for _, unit in some]
            results += _conv_norms(kinds, (epsilon, axis_name), seen, arrays)
        else:
            convolution, kernel, scale, bias, activation = units[len(results)]
            options = {'epsilon': epsilon, 'activation': activation, 'axis_name': axis_name}
            results.append(batch_norm(convolution(seen, kernel), scale, bias, **options))
        seen = results[-1][0]
    return results


def _run_together(inputs, units) -> list[tuple[Geometry, Unit]]:
    """The first of these units, as many as the native ops take at once, and the geometries of their convolutions."""
    some = []
    for unit in units:
        geometry = unit.convolution.geometry(inputs, unit.kernel)
        has_native_ops = unit.convolution.implementation in ('auto', 'native') and has_norm_gradients(
            geometry, inputs, unit.kernel, unit.activation
        )
        if not has_native_ops or (some and not geometry.sees_through_norms(unit.kernel)):
            break
        some.append((geometry, unit))
        inputs = jax.eval_shape(geometry.convolve_by_xla, inputs, unit.kernel)
    return some


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _conv_norms(kinds, options, inputs, arrays):
    return _forward(kinds, options, inputs, arrays)[0]


def _forward(kinds, options, inputs, arrays):
    epsilon, axis_name = options
    seen, before, results, convolved = inputs, None, [], []
    for (geometry, activation), (kernel, scale, bias) in zip(kinds, arrays, strict=True):
        outputs, sums = with_sums(geometry, seen, kernel, before)
        mean, variance = statistics(sums, outputs, axis_name)
        before = Normalization(scale, bias, mean, variance, epsilon, activation)
        # If nobody asks for the normalised outputs between the units, compiled programs leave them out.
        results.append((before(outputs), mean, variance))
        convolved.append((kernel, outputs, before.arrays))
        seen = outputs
    return results, (inputs, convolved)


def _forward_of_values(kinds, options, inputs, arrays):
    return _forward(kinds, options, *jax.tree.map(lambda primal: primal.value, (inputs, arrays)))


def _backward(kinds, options, saved, gradients):
    epsilon, axis_name = options
    inputs, convolved = saved
    normalizations = [
        Normalization(*arrays, epsilon, activation)
        for (_, activation), (*_, arrays) in zip(kinds, convolved, strict=True)
    ]
    seen = [inputs, *(outputs for _, outputs, _ in convolved)]
    *between, gradient = [of_outputs for of_outputs, *_ in gradients]
    if isinstance(gradient, SymbolicZero):
        gradient = jnp.zeros(gradient.shape, gradient.dtype)
    of_units, sums = [], None
    for i in reversed(range(len(kinds))):
        (geometry, activation), (kernel, outputs, _) = kinds[i], convolved[i]
        if i < len(between) and not isinstance(between[i], SymbolicZero):  # somebody else sees these outputs, too
            gradient, sums = gradient + between[i], None
        if sums is None:
            sums = gradient_sums(outputs, gradient, normalizations[i])
        constants, of_scale, of_bias = gradient_constants(sums, outputs, normalizations[i], axis_name)
        before = normalizations[i - 1] if i > 0 else None
        gradient, of_kernel, sums = norm_gradients(
            geometry, activation, seen[i], kernel, outputs, gradient, constants, before
        )
        of_units.insert(0, (of_kernel, of_scale, of_bias))
    return gradient, of_units


_conv_norms.defvjp(_forward_of_values, _backward, symbolic_zeros=True)
