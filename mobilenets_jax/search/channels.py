"""Which channels of a trained network are kept, and the weights of the network that has only these.

The channels of a network fall into groups that are kept or dropped as one: the outputs of all blocks that are added to
each other, the expansion of a block, its squeeze. A network with fewer channels is looked at in two forms. *Masked*, it
has the arrays of the whole network with zeros for what is dropped: all of its candidates are then one compiled program,
and as a channel whose filters and readers are zero gets no gradient, it stays zero in training. *Sliced*, it has the
arrays of the smaller table. Both compute the same.

Reference: denru01/netadapt network_utils/network_utils_abstract.py@248ae1c (`simplify_model_based_on_network_def`: the
    filters of the largest L2 norm are kept).
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from mobilenets_jax.models.specs import BlockSpec, NetworkSpec
from mobilenets_jax.search.operations import Position, positions
from mobilenets_jax.trees import named_leaves

PyTree = Any
Kept = Mapping[str, np.ndarray]  # of each group, whether a channel is kept: bool [channels]
Widths = Mapping[str, int]  # of each group, how many are

STEM = 'stem'
EXPANDED, SQUEEZED, OUT_CHANNELS = 'expanded', 'squeezed', 'out_channels'


class Layer(NamedTuple):
    """A convolution with its batch norm, or a dense layer.

    Attributes:
        path: of its module.
        reads: the group of its input's channels; None: they are never dropped.
        writes: that of its output's.
        depthwise: whether each channel is made of itself.
    """

    path: str
    reads: str | None
    writes: str | None
    depthwise: bool = False


class BlockGroups(NamedTuple):
    """The groups of a block's channels.

    Attributes:
        inputs: of its input.
        middle: of what stands in the column 'expanded' of its row: its own where it has an expansion.
        outputs: of its output.
        squeezed: of its squeeze-excite, or None.
        expands: whether it has an expansion.
    """

    inputs: str
    middle: str
    outputs: str
    squeezed: str | None
    expands: bool


@dataclasses.dataclass(frozen=True)
class Channels:
    """The groups of channels of a network whose blocks are rows of `BlockSpec`.

    Attributes:
        spec: the network, its strides as it is trained.
    """

    spec: NetworkSpec

    @functools.cached_property
    def blocks(self) -> tuple[BlockGroups, ...]:
        """Those of each block."""
        groups, inputs = [], STEM
        for number, position in enumerate(_positions(self.spec), start=1):
            name = f'block{number:02d}'
            outputs = inputs if adds_residual(position) else f'{name}.{OUT_CHANNELS}'
            expands = position.row.kind.endswith('inverted_residual') and position.row.expanded != position.in_channels
            middle = f'{name}.{EXPANDED}' if expands else inputs
            squeezed = f'{name}.{SQUEEZED}' if position.squeezed else None
            groups.append(BlockGroups(inputs, middle, outputs, squeezed, expands))
            inputs = outputs
        return tuple(groups)

    @functools.cached_property
    def layers(self) -> tuple[Layer, ...]:
        """All that have a group's channels at one of their sides."""
        found = [Layer('backbone/stem', None, STEM)]
        for number, (row, groups) in enumerate(zip(self.spec.blocks, self.blocks, strict=True), start=1):
            found += [
                layer._replace(path=f'backbone/block{number:02d}/{layer.path}')
                for layer in _LAYERS[row.kind](row, groups)
            ]
        last = self.blocks[-1].outputs
        reader = 'backbone/head_conv' if self.spec.head_conv is not None else 'logits'
        return (*found, Layer(reader, last, None))

    @functools.cached_property
    def widths(self) -> dict[str, int]:
        """How many channels each group has."""
        found = {STEM: self.spec.stem.channels}
        for position, groups in zip(_positions(self.spec), self.blocks, strict=True):
            found[groups.outputs] = position.row.out_channels
            if groups.expands:
                found[groups.middle] = position.row.expanded
            if groups.squeezed:
                found[groups.squeezed] = position.squeezed
        return found

    @property
    def all_kept(self) -> dict[str, np.ndarray]:
        """Every channel."""
        return {group: np.ones(width, bool) for group, width in self.widths.items()}

    def narrowed(self, widths: Widths) -> NetworkSpec:
        """The network with these numbers of channels in its groups; the squeezes follow by their rule.

        A block goes on adding its input, or not adding it, though its widths may now be equal.
        """
        rows = []
        for position, groups in zip(_positions(self.spec), self.blocks, strict=True):
            out_channels = widths[groups.outputs]
            expanded = out_channels if position.row.kind == 'dense_conv' else widths[groups.middle]
            fields = {'expanded': expanded, 'out_channels': out_channels, 'residual': adds_residual(position)}
            rows.append(dataclasses.replace(position.row, **fields))
        return dataclasses.replace(self.spec, blocks=tuple(rows))

    def keeps_expansions(self, widths: Widths) -> bool:
        """Whether every block still has the expansion that it has: one as wide as its input would be left out."""
        return all(widths[groups.middle] != widths[groups.inputs] for groups in self.blocks if groups.expands)

    def norms(self, params: PyTree, group: str) -> np.ndarray:
        """The L2 norm of the filters that make each channel of a group, float [channels]: of all blocks together."""
        leaves = named_leaves(params)
        paths = [layer.path for layer in self.layers if layer.writes == group and not layer.depthwise]
        kernels = [leaves.get(f'{path}/conv/kernel', leaves.get(f'{path}/kernel')) for path in paths]
        squares = [np.square(np.asarray(kernel, np.float64)).reshape(-1, kernel.shape[-1]) for kernel in kernels]
        return np.sqrt(np.concatenate(squares).sum(axis=0))

    def strongest(self, params: PyTree, kept: Kept, group: str, width: int) -> dict[str, np.ndarray]:
        """`kept`, with only `width` channels of a group: those of the largest norms; of equal ones the first.

        Squeezes that are measured by the group become as narrow as their rule says, by the norms of their own filters.
        """
        chosen = {**kept, group: _largest(self.norms(params, group), kept[group], width)}
        spec = self.narrowed(count(chosen))
        for position, groups in zip(_positions(spec), self.blocks, strict=True):
            squeezed = groups.squeezed
            if squeezed and position.squeezed < chosen[squeezed].sum():
                chosen[squeezed] = _largest(self.norms(params, squeezed), chosen[squeezed], position.squeezed)
        return chosen

    def masked(self, params: PyTree, kept: Kept) -> PyTree:
        """The parameters with zeros for all that makes or reads a channel that is dropped."""
        leaves = dict(named_leaves(params))
        for name, (reads, writes) in self._groups_of_arrays(leaves).items():
            leaf = np.asarray(leaves[name])
            if reads:
                leaf = leaf * kept[reads][:, None].astype(leaf.dtype)
            if writes:
                leaf = leaf * kept[writes].astype(leaf.dtype)
            leaves[name] = leaf
        return jax.tree.unflatten(jax.tree.structure(params), list(leaves.values()))

    def sliced(self, variables: PyTree, kept: Kept) -> PyTree:
        """The arrays of the network `narrowed(count(kept))`.

        Args:
            variables: parameters or running statistics.
            kept: see `Kept`.
        """
        leaves = dict(named_leaves(variables))
        for name, (reads, writes) in self._groups_of_arrays(leaves).items():
            leaf = np.asarray(leaves[name])
            leaf = leaf.compress(kept[reads], axis=-2) if reads else leaf
            leaves[name] = leaf.compress(kept[writes], axis=-1) if writes else leaf
        return jax.tree.unflatten(jax.tree.structure(variables), list(leaves.values()))

    def _groups_of_arrays(self, leaves: Mapping[str, Any]) -> dict[str, tuple[str | None, str | None]]:
        """The groups that the last two axes of each array belong to, by its path; None where an axis is never cut."""
        layers, found = {layer.path: layer for layer in self.layers}, {}
        for name in leaves:
            path, _, array = name.rpartition('/')
            layer = layers.get(path) or layers.get(path.rpartition('/')[0])
            if layer is not None:
                is_kernel = array == 'kernel'
                found[name] = (layer.reads if is_kernel and not layer.depthwise else None, layer.writes)
        return found


def count(kept: Kept) -> dict[str, int]:
    """How many channels of each group are kept."""
    return {group: int(channels.sum()) for group, channels in kept.items()}


def adds_residual(position: Position) -> bool:
    """Whether a block adds its input to its output."""
    return position.row.kind != 'depthwise_separable' and position.row.adds_residual(position.in_channels)


def _positions(spec: NetworkSpec) -> Iterator[Position]:
    return positions(spec, image_size=1)  # sizes in pixels mean nothing here


def _largest(norms: np.ndarray, kept: np.ndarray, width: int) -> np.ndarray:
    """Of the channels that are kept the `width` of the largest norms, bool [channels]."""
    order = np.argsort(np.where(kept, -norms, np.inf), kind='stable')
    chosen = np.zeros(len(kept), bool)
    chosen[order[:width]] = True
    return chosen


def _squeeze_excite(groups: BlockGroups, gated: str) -> list[Layer]:
    if groups.squeezed is None:
        return []
    return [Layer('se/reduce', gated, groups.squeezed), Layer('se/expand', groups.squeezed, gated)]


def _inverted_residual(row: BlockSpec, groups: BlockGroups) -> list[Layer]:
    expand = [Layer('expand', groups.inputs, groups.middle)] if groups.expands else []
    depthwise = [Layer('depthwise', groups.middle, groups.middle, depthwise=True)]
    return [
        *expand,
        *(depthwise if row.kind == 'inverted_residual' else ()),
        *_squeeze_excite(groups, groups.middle),
        Layer('project', groups.middle, groups.outputs),
    ]


def _depthwise_separable(row: BlockSpec, groups: BlockGroups) -> list[Layer]:
    depthwise = Layer('depthwise', groups.inputs, groups.inputs, depthwise=True)
    return [depthwise, Layer('pointwise', groups.inputs, groups.outputs), *_squeeze_excite(groups, groups.outputs)]


def _dense_conv(row: BlockSpec, groups: BlockGroups) -> list[Layer]:
    return [Layer('spatial', groups.inputs, groups.outputs), *_squeeze_excite(groups, groups.outputs)]


_LAYERS = {
    'dense_conv': _dense_conv,
    'dense_inverted_residual': _inverted_residual,
    'depthwise_separable': _depthwise_separable,
    'inverted_residual': _inverted_residual,
}
