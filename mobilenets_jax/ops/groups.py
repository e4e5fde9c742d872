"""Groups of channels, as ShuffleNet has them."""

import jax
import jax.numpy as jnp
from jax import lax

from mobilenets_jax.ops.backend import EXPORT, backend


def channels_by_groups(inputs: jax.Array, groups: int, shuffled: bool) -> list[jax.Array]:
    """The channels of each group.

    Args:
        inputs: [N, H, W, C].
        groups: how many.
        shuffled: whether group g has every groups-th channel from g on; else a contiguous part, as even as possible,
            the first groups wider.
    """
    inputs = lax.optimization_barrier(inputs)  # or XLA computes them again for each group, with all blocks before
    if shuffled:
        return alternating_channels(inputs, groups)
    starts = [0]
    for group in range(groups):
        starts.append(starts[-1] + group_width(inputs.shape[-1], groups, group))
    return [lax.slice_in_dim(inputs, start, stop, axis=-1) for start, stop in zip(starts, starts[1:], strict=False)]


def alternating_channels(inputs: jax.Array, groups: int) -> list[jax.Array]:
    """The channels of `inputs` [N, H, W, C] dealt to groups: group g has every groups-th from g on, C / groups each."""
    if backend() == EXPORT:  # runtimes for phones have no fast slices with strides
        return jnp.split(deal_channels(inputs, inputs.shape[-1] // groups), groups, axis=-1)
    return [lax.slice_in_dim(inputs, group, None, groups, axis=-1) for group in range(groups)]


def deal_channels(inputs: jax.Array, groups: int) -> jax.Array:
    """The channels of `inputs` [N, H, W, C], whose groups are contiguous, so that those of the groups alternate."""
    *batch, channels = inputs.shape
    grouped = inputs.reshape(*batch, groups, channels // groups)
    return jnp.swapaxes(grouped, -1, -2).reshape(inputs.shape)  # (.., groups, C/g) -> (.., C/g, groups) -> (.., C)


def group_width(channels: int, groups: int, group: int) -> int:
    """The channels of one group: as even as possible, the first groups wider."""
    return channels // groups + (group < channels % groups)
