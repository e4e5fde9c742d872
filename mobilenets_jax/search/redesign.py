"""What MobileNetV3's authors changed by hand in the table that their search had found.

Each step maps a table to a table, and gives one back as it is that already has what the step brings.

Paper: Howard et al., Searching for MobileNetV3, 1905.02244v5, sections 5.1 (last stage and stem, Figure 5) and 5.2
    (nonlinearities, Table 5).
Differs: section 5.2 has h-swish "in the second half"; that is here from the first row at 1/16 of the resolution on,
    where it begins in the tables of both published networks.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

from mobilenets_jax.errors import UserError, check
from mobilenets_jax.models.specs import BlockSpec, ConvSpec, NetworkSpec

STEM_CHANNELS = 16
HARD_SWISH = 'hard_swish'
_HALF = 16  # the stride from which on a row is of the second half
_COSTLY = (HARD_SWISH, 'swish')  # nonlinearities that the first half shall do without
_PART_OF_INPUT = ('inverted_residual', 'dense_inverted_residual', 'depthwise_separable')  # without an expansion


class Step(NamedTuple):
    """A table after a step.

    Attributes:
        name: of the step.
        spec: the table.
    """

    name: str
    spec: NetworkSpec


def redesigned(
    spec: NetworkSpec, stem_channels: int = STEM_CHANNELS, hard_swish_from: int | None = None
) -> Iterator[Step]:
    """The table after each of the steps, in the paper's order.

    Args:
        spec: of a classifier, with rows of `BlockSpec`.
        stem_channels: see `with_narrow_stem`.
        hard_swish_from: see `with_hard_swish`.

    Raises:
        UserError: a step does not fit the table.
    """
    steps = {
        'last convolution behind the pooling': with_efficient_last_stage,
        f'stem of {stem_channels} with h-swish': functools.partial(with_narrow_stem, channels=stem_channels),
        f'h-swish from {hard_swish_from or "the second half"} on': functools.partial(
            with_hard_swish, out_channels=hard_swish_from
        ),
    }
    for name, step in steps.items():
        spec = step(spec)
        yield Step(name, spec)


def with_efficient_last_stage(spec: NetworkSpec) -> NetworkSpec:
    """Computes the convolution before the pooling behind it, where there is one pixel (5.1, Figure 5).

    The last block keeps its expansion alone, which takes the place of that convolution: what the block filtered and
    projected, and its squeeze-excite, only made that convolution cheaper.

    Args:
        spec: a table without a layer between pooling and logits; one that has it is done already.

    Raises:
        UserError: the table has no convolution before the pooling, or a last block without an expansion at stride 1.
    """
    if spec.pre_logits is not None:
        return spec
    if spec.head_conv is None:
        raise UserError('head_conv=None: the table has no convolution to compute behind the pooling.')
    *blocks, last = spec.blocks
    in_channels = blocks[-1].out_channels if blocks else spec.stem.channels
    label = f'blocks[{len(blocks)}]'
    check(last.kind == 'inverted_residual', f'{label}.kind', last.kind, 'must be inverted_residual in the last row')
    requirement = 'must be an expansion in the last row, which is kept of it'
    check(bool(blocks) and last.expanded != in_channels, f'{label}.expanded', last.expanded, requirement)
    check(last.stride == 1, f'{label}.stride', last.stride, 'must be 1 in the last row, which is left out')
    return dataclasses.replace(
        spec,
        blocks=tuple(blocks),
        head_conv=ConvSpec(channels=last.expanded, activation=last.activation),
        pre_logits=spec.head_conv.channels,
        head_activation=spec.head_conv.activation,
    )


def with_narrow_stem(spec: NetworkSpec, channels: int = STEM_CHANNELS) -> NetworkSpec:
    """Gives the stem fewer filters, and h-swish so that they do as well (5.1).

    A first block without an expansion is as narrow as its input then, and adds it where it is as wide as its output.

    Args:
        spec: the table; a narrower stem than asked for is kept.
        channels: of the stem.

    Raises:
        UserError: the expansion of the first block would be as wide as its input, and be left out.
    """
    check(channels > 0, 'stem.channels', channels, 'must be positive')
    width = min(channels, spec.stem.channels)
    first, *others = spec.blocks
    if first.kind in _PART_OF_INPUT and first.expanded == spec.stem.channels:
        first = dataclasses.replace(first, expanded=width)
    elif first.kind in _PART_OF_INPUT:
        requirement = f'is an expansion, which a stem of {width} channels would leave out'
        check(first.expanded != width, 'blocks[0].expanded', first.expanded, requirement)
    stem = dataclasses.replace(spec.stem, channels=width, activation=HARD_SWISH)
    return dataclasses.replace(spec, stem=stem, blocks=(first, *others))


def with_hard_swish(spec: NetworkSpec, out_channels: int | None = None) -> NetworkSpec:
    """Has h-swish where it is cheap, and ReLU in its place before (5.2); also in the layers behind the blocks.

    Args:
        spec: the table; what is neither h-swish nor swish before h-swish begins stays as it is.
        out_channels: rows that are as wide have it (Table 5: 75.2 % from 80 on, 75.4 % from 16, 75.0 % from 112); None:
            those at 1/16 of the resolution and below.

    Raises:
        UserError: no row would have it.
    """
    if out_channels is None:
        chosen = [stride >= _HALF for stride in _strides(spec)]
        requirement = f'is reached by no row: give h-swish a width to begin at, for lack of a stride of {_HALF}'
        check(any(chosen), 'stride', max(_strides(spec)), requirement)
    else:
        widths = [row.out_channels for row in spec.blocks]
        chosen = [width >= out_channels for width in widths]
        check(
            any(chosen), 'hard_swish_from', out_channels, f'is beyond the widest row, which has {max(widths)} channels'
        )
    rows = zip(spec.blocks, chosen, strict=True)
    head_conv = spec.head_conv and dataclasses.replace(spec.head_conv, activation=HARD_SWISH)
    return dataclasses.replace(
        spec,
        blocks=tuple(dataclasses.replace(row, activation=_nonlinearity(row, has_it)) for row, has_it in rows),
        head_conv=head_conv,
        head_activation=spec.head_activation if spec.pre_logits is None else HARD_SWISH,
    )


def _strides(spec: NetworkSpec) -> list[int]:
    """By how much the output of each row is smaller than the image."""
    strides, stride = [], spec.stem.stride * (2 if spec.stem_pool else 1)
    for row in spec.blocks:
        stride *= row.stride
        strides.append(stride)
    return strides


def _nonlinearity(row: BlockSpec, has_hard_swish: bool) -> str:
    if has_hard_swish:
        return HARD_SWISH
    return 'relu' if row.activation in _COSTLY else row.activation
