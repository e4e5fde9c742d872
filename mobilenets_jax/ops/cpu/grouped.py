"""Pointwise (1x1) convolution in groups of channels, as in ShuffleNetV1, with the shuffle before it.

XLA:CPU computes a convolution with `feature_group_count` and its gradients many times slower than the matrix products
that it consists of. There it is a native op of this project (`ops.cpu.native`), which splits the channels into groups
and joins them again while they are in the cache, or, where that cannot be used, one product for each group.
"""

import jax
import jax.numpy as jnp

from mobilenets_jax.ops.backend import chosen
from mobilenets_jax.ops.cpu.native_conv import Geometry, convolve, has_native_op
from mobilenets_jax.ops.cpu.normalization import Normalization
from mobilenets_jax.ops.cpu.pointwise import pointwise_conv
from mobilenets_jax.ops.groups import channels_by_groups


def pointwise_conv_in_groups(
    inputs: jax.Array,
    kernel: jax.Array,
    *,
    groups: int,
    shuffled: bool = False,
    then: Normalization | None = None,
    implementation: str = 'auto',
) -> jax.Array:
    """Mixes the channels of every pixel, those of each group by themselves.

    All implementations agree to rounding, in the value and in both gradients, and support reverse-mode
    differentiation.

    Args:
      inputs: floating point [N, H, W, C_in].
      kernel: [1, 1, C_in / groups, C_out], of the dtype of `inputs`; group g makes the g-th part of the outputs.
      groups: divides both numbers of channels.
      shuffled: whether group g reads every groups-th channel from g on, instead of a contiguous part.
      then: the epilogue on the outputs, in the same pass if there is a native op for it.
      implementation: a name in `IMPLEMENTATIONS`, or 'auto' for the one that suits the backend at trace time.

    Returns:
      [N, H, W, C_out] of the dtype of `inputs`.

    Raises:
      UserError: `implementation` is unknown.
      ValueError: the kernel does not fit the inputs.
    """
    channels, features = inputs.shape[-1], kernel.shape[-1]
    if kernel.shape[:3] != (1, 1, channels / groups) or features % groups or kernel.dtype != inputs.dtype:
        raise ValueError(
            f'A pointwise kernel for {inputs.dtype} inputs of {channels} channels in {groups} groups is '
            f'{inputs.dtype} [1, 1, {channels} / {groups}, {groups} * n], not {kernel.dtype} {list(kernel.shape)}.'
        )
    geometry = Geometry(depthwise=False, groups=groups, shuffled=shuffled)
    there = has_native_op(geometry, inputs, kernel)
    implementation = chosen(implementation, IMPLEMENTATIONS, IMPLEMENTATION_FOR_BACKEND, has_native_op=there)
    if implementation == 'native':
        return convolve(geometry, inputs, kernel, then)
    outputs = (_split if implementation == 'split' else Geometry.convolve_by_xla)(geometry, inputs, kernel)
    return outputs if then is None else then(outputs)


def _split(geometry: Geometry, inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    parts = channels_by_groups(inputs, geometry.groups, geometry.shuffled)
    kernels = jnp.split(kernel, geometry.groups, axis=-1)
    return jnp.concatenate([pointwise_conv(*pair) for pair in zip(parts, kernels, strict=True)], axis=-1)


# A config that names one is checked against these and 'auto'.
IMPLEMENTATIONS = ('grouped', 'split', 'native')
# Where there are no native ops for the CPU.
IMPLEMENTATION_FOR_BACKEND = {'cpu': 'split', 'gpu': 'split', 'tpu': 'split'}
