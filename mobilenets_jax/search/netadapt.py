"""NetAdapt: a trained network loses channels step by step, where that costs least accuracy for the time it saves.

Each round proposes, for every expansion and for every width that blocks share, the fewest channels to drop that save
some time at least. Each proposal keeps the weights of the strongest channels and is trained for a short while; one
of them is the network of the next round. This module has the parts that train nothing.

Paper: Howard et al., MobileNetV3, 1905.02244, section 4.2; Yang et al., NetAdapt, 1804.03230, section 3.
Differs: a width that blocks share with the stem is left as it is, as the paper cuts the stem by hand. Channels are
    dropped in multiples of the table's divisor (8), since no published network has other widths.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mobilenets_jax.errors import check
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.search.channels import SQUEEZED, STEM, Channels, Widths

Milliseconds = Callable[[NetworkSpec], float]


class Proposal(NamedTuple):
    """A network with fewer channels in one group.

    Attributes:
        group: see `channels.Channels`.
        width: how many channels it has left.
        milliseconds: of the whole network.
    """

    group: str
    width: int
    milliseconds: float


def proposals(channels: Channels, widths: Widths, milliseconds: Milliseconds, saved: float) -> list[Proposal]:
    """The proposals of a round: for each group the most channels with which the network saves enough time.

    Args:
        channels: of the network that the search began with.
        widths: of the network of this round.
        milliseconds: the latency of a network.
        saved: the least milliseconds that a proposal saves, positive.

    Returns:
        In the order of the network; none of a group that cannot save as much.
    """
    check(saved > 0, 'saved', saved, 'must be positive')
    before = milliseconds(channels.narrowed(widths))
    found = (
        _proposal(channels, widths, group, milliseconds, before, saved)
        for group in channels.widths
        if group != STEM and not group.endswith(SQUEEZED)
    )
    return [proposal for proposal in found if proposal is not None]


def _proposal(
    channels: Channels, widths: Widths, group: str, milliseconds: Milliseconds, before: float, saved: float
) -> Proposal | None:
    """The widest network with fewer channels in `group` alone that takes `saved` ms less than `before`, or None."""
    divisor = channels.spec.convention.divisor
    for width in range((widths[group] - 1) // divisor * divisor, 0, -divisor):
        narrower = {**widths, group: width}
        if channels.keeps_expansions(narrower):
            latency = milliseconds(channels.narrowed(narrower))
            if before - latency >= saved:
                return Proposal(group, width, latency)
    return None


def ratio(accuracy: float, milliseconds: float, before: tuple[float, float]) -> float:
    """What a round maximises: the change of the accuracy for each millisecond saved.

    Args:
        accuracy: of a proposal after its short training.
        milliseconds: of the proposal.
        before: accuracy and milliseconds of the round's network, which takes longer.
    """
    return (accuracy - before[0]) / (before[1] - milliseconds)


def best_of(tried: Sequence[Mapping[str, Any]], before: tuple[float, float]) -> int | None:
    """The number of the proposal that a round takes, the first of equals.

    Args:
        tried: 'accuracy' and 'milliseconds' of each proposal; an accuracy of None is of one that could not be trained.
        before: see `ratio`.

    Returns:
        None where none could be trained.
    """
    ratios = {
        number: ratio(row['accuracy'], row['milliseconds'], before)
        for number, row in enumerate(tried)
        if row['accuracy'] is not None
    }
    return max(ratios, key=ratios.__getitem__, default=None)


def with_strides(spec: NetworkSpec, table: NetworkSpec) -> NetworkSpec:
    """A network with the strides of another table of as many rows: those that training on small images dropped."""
    rows = zip(spec.blocks, table.blocks, strict=True)
    blocks = tuple(dataclasses.replace(row, stride=other.stride) for row, other in rows)
    stem = dataclasses.replace(spec.stem, stride=table.stem.stride)
    return dataclasses.replace(spec, stem=stem, blocks=blocks)


def as_table(spec: NetworkSpec) -> NetworkSpec:
    """A network whose convention keeps the widths that it has, also where it had the last convolution follow them."""
    return dataclasses.replace(spec, convention=dataclasses.replace(spec.convention, head_conv='scaled'))
