"""Successive convolutions as one operation, where the activations between them are too large for the caches.

An inverted residual expands its inputs sixfold, convolves each channel by itself, and projects to a few channels again.
On a CPU most of its time went into writing the expanded channels to memory and reading them again. The native op goes
through the image by strips of rows, and has them in the cache only.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from mobilenets_jax.ops.cpu import native
from mobilenets_jax.ops.cpu.chains import Convolution
from mobilenets_jax.ops.cpu.gradients import differentiated_as
from mobilenets_jax.ops.cpu.native_conv import NOTHING, can_add, has_native_op, nothing
from mobilenets_jax.ops.cpu.normalization import Normalization

CACHED_BYTES = 2**20  # smaller activations between them are written: they stay in the second cache of a core


class Step(NamedTuple):
    """A convolution with its kernel, and the epilogue on its outputs."""

    convolution: Convolution
    kernel: jax.Array
    then: Normalization


def runs_in_strips(inputs: jax.Array, steps: Sequence[Step]) -> bool:
    """Whether a native op computes these steps one after another from `inputs` [N, H, W, C], and is faster than XLA.

    There is one for a depthwise convolution with a pointwise one before it, after it, or both.
    """
    kinds = [step.convolution.depthwise for step in steps]
    if kinds not in ([False, True], [True, False], [False, True, False]):
        return False
    if not all(native.supports(inputs.dtype, step.then.activation) for step in steps):
        return False
    for convolution, kernel, _ in steps:
        geometry = convolution.geometry(inputs, kernel)
        known = has_native_op(geometry, inputs, kernel) and convolution.implementation in ('auto', 'native')
        if not (known if convolution.depthwise else geometry.is_pointwise(kernel)):
            return False
    between = jax.eval_shape(lambda inputs: _one_by_one(inputs, steps[:1]), inputs)
    return between.size * between.dtype.itemsize > CACHED_BYTES


def convolve_in_turn(inputs: jax.Array, steps: Sequence[Step]) -> jax.Array:
    """Convolves `inputs` [N, H, W, C] by each step in turn, to [N, H', W', C'] of the dtype of `inputs`.

    Raises:
      UserError: there is no native op for these steps, see `runs_in_strips`.
    """
    kinds = tuple((step.convolution, step.then.options) for step in steps)
    arrays = [(step.kernel, *step.then.arrays) for step in steps]
    convolution, kernel, last = steps[-1]
    if can_add(convolution.geometry(inputs, kernel), last):
        return _in_strips(kinds, inputs, arrays, last.residual)
    return last.added_to(_in_strips(kinds, inputs, arrays, np.zeros(0, inputs.dtype)))


def _one_by_one(inputs, steps):
    for convolution, kernel, then in steps:
        inputs = convolution(inputs, kernel, then=then)
    return inputs


def _apart(kinds, inputs, arrays, residual):
    steps = [
        Step(convolution, kernel, Normalization(*statistics, *options))
        for (convolution, options), (kernel, *statistics) in zip(kinds, arrays, strict=True)
    ]
    outputs = _one_by_one(inputs, steps)
    return outputs + residual if residual.size > 0 else outputs


@differentiated_as(_apart, static=1)
def _in_strips(kinds, inputs, arrays, residual):
    """Expansion, if the first step is not depthwise; depthwise convolution; projection, if the last step is not.

    The `residual` is added in the end, unless it has no elements.
    """
    native.check('convolve_in_turn', inputs.dtype)
    outputs = jax.eval_shape(functools.partial(_apart, kinds), inputs, arrays, residual)
    steps = list(zip(kinds, arrays, strict=True))
    none = ((None, NOTHING), [np.zeros(0, inputs.dtype), *nothing(inputs)])
    if kinds[0][0].depthwise:
        steps.insert(0, none)
    if kinds[-1][0].depthwise:
        steps.append(none)
    attributes = steps[1][0][0].geometry(inputs, steps[1][1][0]).numbers
    statistics = []
    for name, ((_, options), (_, *some)) in zip(('expand', 'depthwise', 'project'), steps, strict=True):
        then = Normalization(*some, *options)
        attributes |= {f'{name}_activation': native.ACTIVATIONS[then.activation]}
        statistics += then.factor_and_shift()
    kernels = [kernel for _, (kernel, *_) in steps]
    return native.call('separable', outputs, inputs, *kernels, residual, statistics=statistics, **attributes)
