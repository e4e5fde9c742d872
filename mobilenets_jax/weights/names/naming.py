"""What the name maps are made of."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

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


def units(network: Network) -> Iterator[tuple[int, str, str]]:
    """Yields all units of all blocks: the block's number from 0, the unit in it, and the path of the unit."""
    for number, block in enumerate(network.blocks):
        for unit in block:
            yield number, unit, f'backbone/block{number + 1:02d}/{unit}'


def stages(network: Network) -> list[tuple[int, int]]:
    """For each block the number of its stage and its place in it, from 0.

    A stage is a line of the paper's table: blocks one after another with the same kernel and output channels at width
    1.0 (at other widths two stages can come to have the same).
    """
    groups = itertools.groupby(network.table.blocks, key=lambda row: (row.kernel_size, row.out_channels))
    return [(number, place) for number, (_, rows) in enumerate(groups) for place, _ in enumerate(rows)]
