"""Groups of channels, as ShuffleNet has them."""

import jax
from jax import lax


def channels_by_groups(inputs: jax.Array, groups: int, shuffled: bool) -> list[jax.Array]:
    """The channels of each group.

    Args:
        inputs: [N, H, W, C].
        groups: how many.
        shuffled: whether group g has every groups-th channel from g on; else a contiguous part, as even as possible,
            the first groups wider.
    """
    inputs = lax.optimization_barrier(inputs)  # or XLA computes them anew for each group, with all blocks before
    if shuffled:
        return [lax.slice_in_dim(inputs, group, None, groups, axis=-1) for group in range(groups)]
    starts = [0]
    for group in range(groups):
        starts.append(starts[-1] + group_width(inputs.shape[-1], groups, group))
    return [lax.slice_in_dim(inputs, start, stop, axis=-1) for start, stop in zip(starts, starts[1:], strict=False)]


def group_width(channels: int, groups: int, group: int) -> int:
    """The channels of one group: as even as possible, the first groups wider."""
    return channels // groups + (group < channels % groups)
