"""The network that has all networks of a space as parts, and the part that each of them is.

Whether a network is such a part is checked row by row: what masks on parameters cannot say (another activation, an
expansion that is not there, a residual that begins to be there) is refused, never approximated.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mobilenets_jax.errors import UserError, check
from mobilenets_jax.models.specs import BlockSpec, ConvSpec, NetworkSpec
from mobilenets_jax.search.masks import Sizes
from mobilenets_jax.search.space import Choice, Space

KIND = 'inverted_residual'
GATE = 'hard_sigmoid'  # the one that a large bias opens all the way
_TRIED = 200  # random networks that are checked when a super-network is made


@dataclasses.dataclass(frozen=True)
class SuperNetwork:
    """The largest network of a space, and its sub-networks.

    Attributes:
        space: whose networks share weights.
        resolve: from a table of the space to that of the network that is trained, e.g. at another width and without
            its first strides; rows stay as many.

    Raises:
        UserError: a network of the space is no part of the largest one; names the choice.
    """

    space: Space
    resolve: Callable[[NetworkSpec], NetworkSpec] = lambda spec: spec

    def __post_init__(self):
        check(self.space.kept is not None, 'search.space', self.space.name, 'has networks that cannot share weights')
        for decisions in self.neighbours():
            self.sizes(decisions)
        for decisions in self.space.sample(np.random.default_rng(0), _TRIED):
            self.sizes(decisions)

    def neighbours(self) -> Iterator[np.ndarray]:
        """The largest network, and those that differ from it in one choice: they show choices that cannot be shared."""
        yield self.largest
        for number, count in enumerate(self.space.num_options):
            for option in range(count):
                decisions = self.largest.copy()
                decisions[number] = option
                yield decisions

    @functools.cached_property
    def largest(self) -> np.ndarray:
        """The decisions of the network with every layer at its largest, int [C]."""
        return np.array([_ordered_options(choice)[-1] for choice in self.space.choices])

    @functools.cached_property
    def smallest(self) -> np.ndarray:
        """Those of the network with every layer at its smallest, and as few as there can be, int [C]."""
        return np.array([_ordered_options(choice)[0] for choice in self.space.choices])

    @functools.cached_property
    def table(self) -> NetworkSpec:
        """The table of the largest network, as the space has it."""
        return self.space.spec(self.largest)

    @functools.cached_property
    def spec(self) -> NetworkSpec:
        """The largest network."""
        return self.resolve(self.table)

    @functools.cached_property
    def _rows(self) -> list[tuple[BlockSpec, int]]:
        return _with_inputs(self.spec)

    def network(self, decisions: Sequence[int]) -> NetworkSpec:
        """The network of decisions, as it computes inside of the largest one.

        A row whose input has as many channels as its output by chance, but not in the largest network, adds none.
        """
        return self._networks(tuple(map(int, decisions)))

    @functools.cached_property
    def _networks(self) -> Callable[[tuple[int, ...]], NetworkSpec]:
        return functools.lru_cache(maxsize=1024)(self._build)  # a search comes to draw the same ones

    def _build(self, decisions: tuple[int, ...]) -> NetworkSpec:
        spec, rows = self.resolve(self.space.spec(decisions)), []
        for number, (row, in_channels) in zip(self._kept(decisions), _with_inputs(spec), strict=True):
            by_chance = row.adds_residual(in_channels) and not self._adds_residual(number)
            rows.append(dataclasses.replace(row, residual=False) if by_chance else row)
        return dataclasses.replace(spec, blocks=tuple(rows))

    def sizes(self, decisions: Sequence[int]) -> Sizes:
        """What of the largest network the network of decisions has, int32.

        Raises:
            UserError: it is no part of it.
        """
        spec, kept = self.network(decisions), self._kept(decisions)
        self._check_ends(spec)
        columns = np.zeros((5, len(self.spec.blocks)), np.int32)
        for number, (row, in_channels) in zip(kept, _with_inputs(spec), strict=True):
            reason = _misfit(row, in_channels, *self._rows[number])
            if reason:
                self._refuse(f'row {number + 1}', reason, decisions)
            squeeze = row.squeeze_excite.squeezed(in_channels, row.expanded) if row.squeeze_excite else 0
            columns[:, number] = (row.kernel_size, in_channels, row.expanded, squeeze, row.out_channels)
        for number in set(range(len(self._rows))) - set(kept):
            if not self._adds_residual(number):
                self._refuse(f'row {number + 1}', 'has no residual, and cannot be left out', decisions)
        return Sizes(
            np.int32(spec.stem.kernel_size),
            np.int32(spec.stem.channels),
            *columns,
            last=np.int32(spec.blocks[-1].out_channels if kept else spec.stem.channels),
            head_conv=None if spec.head_conv is None else np.int32(spec.head_conv.channels),
            pre_logits=None if spec.pre_logits is None else np.int32(spec.pre_logits),
        )

    def _kept(self, decisions: Sequence[int]) -> list[int]:
        """The rows of the largest network that are there, from 0 on."""
        return [number for number, there in enumerate(self.space.kept(self.space.options(decisions))) if there]

    def _adds_residual(self, number: int) -> bool:
        row, in_channels = self._rows[number]
        return row.adds_residual(in_channels)

    def _check_ends(self, spec: NetworkSpec) -> None:
        """Raises `UserError` unless all but the blocks is a part of the largest network."""
        same = ('stem_pool', 'head_activation', 'classifier_bias', 'convention')
        fits = all(getattr(spec, field) == getattr(self.spec, field) for field in same)
        fits = fits and _is_part(spec.stem, self.spec.stem) and _is_part(spec.head_conv, self.spec.head_conv)
        fits = fits and (spec.pre_logits or 0) <= (self.spec.pre_logits or 0)
        fits = fits and (spec.pre_logits is None) == (self.spec.pre_logits is None)
        check(fits, 'search.space', self.space.name, 'has networks that share no stem or no last layers')

    def _refuse(self, row: str, reason: str, decisions: Sequence[int]) -> None:
        options = self.space.options(decisions)
        other = [name for name, option in self.space.options(self.largest).items() if options[name] != option]
        chosen = ', '.join(f'{name}={options[name]!r}' for name in other[:3])
        more = f' and {len(other) - 3} more choices' if len(other) > 3 else ''
        raise UserError(
            f'search.space={self.space.name!r}: its networks cannot share weights: with {chosen}{more} {row} {reason}. '
            'search.options can leave options out.'
        )


def _ordered_options(choice: Choice) -> list[int]:
    """The numbers of the options, from the one that makes the smallest network on: a layer that is skipped is none."""
    skips = choice.name.endswith('/skip')
    check(not skips or False in choice.options, f'search.options: {choice.name}', choice.options, 'must have False')
    return sorted(range(len(choice.options)), key=lambda option: choice.options[option], reverse=skips)


def _with_inputs(spec: NetworkSpec) -> list[tuple[BlockSpec, int]]:
    """Every row with the channels of its input."""
    widths = [spec.stem.channels, *(row.out_channels for row in spec.blocks[:-1])]
    return list(zip(spec.blocks, widths, strict=True))


def _is_part(small: ConvSpec | None, large: ConvSpec | None) -> bool:
    if small is None or large is None:
        return small is large
    same = (small.activation, small.stride) == (large.activation, large.stride)
    return same and small.channels <= large.channels and small.kernel_size <= large.kernel_size


def _misfit(row: BlockSpec, in_channels: int, large: BlockSpec, large_inputs: int) -> str:
    """Why a row is no part of a larger one; '' where it is."""
    squeeze, large_squeeze = row.squeeze_excite, large.squeeze_excite
    reasons = {
        'is no inverted residual': row.kind != KIND or large.kind != KIND or row.residual_pool or large.residual_pool,
        'has another activation': row.activation != large.activation,
        'has another stride': row.stride != large.stride,
        'is larger than that of the largest network': row.kernel_size > large.kernel_size
        or row.expanded > large.expanded
        or row.out_channels > large.out_channels
        or in_channels > large_inputs,
        'has no expansion': (row.expanded == in_channels) != (large.expanded == large_inputs),
        'adds no residual': row.adds_residual(in_channels) != large.adds_residual(large_inputs),
        'has another squeeze-excite': squeeze is not None and squeeze != large_squeeze,
        f'has a squeeze-excite whose gate is no {GATE}': squeeze is None
        and large_squeeze is not None
        and large_squeeze.gate != GATE,
    }
    return next((reason for reason, holds in reasons.items() if holds), '')
