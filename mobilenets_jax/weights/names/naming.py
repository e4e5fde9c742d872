"""What the name maps are made of."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from mobilenets_jax.weights.network import Network

Names = dict[str, str]


@dataclasses.dataclass(frozen=True)
class NameMap:
    """One implementation's names for the networks of one family.

    Attributes:
        stem: its name for the stem's convolution.
        logits: its name for the last layer.
        others: its names for all other layers, given the network.
    """

    stem: str
    logits: str
    others: Callable[[Network], Names]

    def __call__(self, network: Network) -> Names:
        """Our layers' paths -> the implementation's layers."""
        return {'backbone/stem/conv': self.stem, 'logits': self.logits} | self.others(network)


def conv_norm(path: str, conv: str, norm: str) -> Names:
    """Names for our `ConvNorm` at `path`."""
    return {f'{path}/conv': conv, f'{path}/bn': norm}


def pair(path: str, module: str) -> Names:
    """Names for a `ConvNorm` that PyTorch writes as the first two modules of a sequence."""
    return conv_norm(path, f'{module}.0', f'{module}.1')


def units(network: Network) -> Iterator[tuple[int, str, str]]:
    """Yields all units of all blocks: the block's number from 0, the unit in it, and the path of the unit."""
    for number, block in enumerate(network.blocks):
        for unit in block:
            yield number, unit, f'backbone/block{number + 1:02d}/{unit}'


def stages(
    network: Network, key: Callable[[Any], Any] = lambda row: (row.kernel_size, row.out_channels)
) -> list[tuple[int, int]]:
    """For each block the number of its stage and its place in it, from 0.

    Args:
        network: ours.
        key: a stage ends where this changes from a row to the next, at width 1.0 (at other widths two stages can come
            to have the same channels), and before every strided block. By default a stage is a line of the paper's
            table.
    """
    places: list[tuple[int, int]] = []
    rows = network.table.blocks
    for row, previous in zip(rows, (None, *rows), strict=False):
        if previous is None:
            places.append((0, 0))
        elif row.stride == 2 or key(row) != key(previous):
            places.append((places[-1][0] + 1, 0))
        else:
            places.append((places[-1][0], places[-1][1] + 1))
    return places
