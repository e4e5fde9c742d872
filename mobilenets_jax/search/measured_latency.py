"""Latencies of the parts of networks, measured on one machine, whose sum is the latency of a network.

A part is the stem, a block, or all that stands behind the blocks. Parts that differ in their widths alone are one kind;
a table may have the widths of a space, or a grid of widths that others are interpolated between. `latency_table` makes
such tables.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mobilenets_jax.errors import UserError, check
from mobilenets_jax.models.specs import BlockSpec, NetworkSpec
from mobilenets_jax.search.channels import adds_residual
from mobilenets_jax.search.look_up_tables import number_of, read_object
from mobilenets_jax.search.operations import Position, positions

FORMAT = 'mobilenets_jax latencies 1'
STEM, BLOCK, TAIL = 'stem', 'block', 'tail'

Kind = tuple[str, int, str]  # the name of the part, the size of its input, and what it is made of
Widths = tuple[int, ...]


class Part(NamedTuple):
    """A part of a network.

    Attributes:
        name: 'stem', 'block' or 'tail'.
        size: height and width of its input, in pixels.
        in_channels: of its input.
        made_of: all else but its widths, as JSON.
        widths: the numbers of channels that are free: those of the stem; of a block's input unless it is added to the
            output, of its expansion where it has one, and of its output; of the tail's input and of each of its layers.
        spec: the network, of which a block is the only row.
    """

    name: str
    size: int
    in_channels: int
    made_of: str
    widths: Widths
    spec: NetworkSpec

    @property
    def kind(self) -> Kind:
        """What it has in common with the parts that differ in their widths alone."""
        return self.name, self.size, self.made_of


def parts(spec: NetworkSpec, image_size: int) -> Iterator[Part]:
    """The parts of a network with rows of `BlockSpec`, at an image size in pixels."""
    size, channels = image_size, spec.stem.channels
    stem = {**_fields(spec.stem, 'kernel_size', 'stride', 'activation'), 'pool': spec.stem_pool}
    yield Part(STEM, size, 3, _text(spec, stem), (channels,), spec)
    size = -(-size // spec.stem.stride)
    if spec.stem_pool:
        size = -(-size // 2)
    for position in positions(spec, image_size):
        yield block_part(spec, position)
        size, channels = position.out_size, position.row.out_channels
    head, pre_logits = spec.head_conv, spec.pre_logits
    tail = {
        'head_conv': head and head.activation,
        'pre_logits': pre_logits and spec.head_activation,
        'classifier_bias': spec.classifier_bias,
    }
    widths = (channels, *(() if head is None else (head.channels,)), *(() if pre_logits is None else (pre_logits,)))
    yield Part(TAIL, size, channels, _text(spec, tail), widths, spec)


def block_part(spec: NetworkSpec, position: Position) -> Part:
    """A row of a network where it stands."""
    row, in_channels = position.row, position.in_channels
    adds, expands = adds_residual(position), has_expansion(row, in_channels)
    made_of = {
        **_fields(row, 'kind', 'kernel_size', 'stride', 'activation'),
        'squeeze_excite': row.squeeze_excite and dataclasses.asdict(row.squeeze_excite),
        'expands': expands,
        'adds': ('pool' if row.residual_pool else 'input') if adds else None,
    }
    widths = (*(() if adds else (in_channels,)), *((row.expanded,) if expands else ()), row.out_channels)
    alone = dataclasses.replace(spec, blocks=(row,))
    return Part(BLOCK, position.in_size, in_channels, _text(spec, made_of), widths, alone)


def has_expansion(row: BlockSpec, in_channels: int) -> bool:
    """Whether a block has one."""
    return row.kind.endswith('inverted_residual') and row.expanded != in_channels


def _fields(layer: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in names}


def _text(spec: NetworkSpec, made_of: Mapping[str, Any]) -> str:
    return json.dumps({**made_of, 'padding': spec.convention.padding}, sort_keys=True)


class MeasuredTable:
    """A latency model that adds the parts of a network.

    Args:
        device: what was measured, with what.
        entries: milliseconds of the parts of each kind, by their widths.
        source: what messages call the table.
    """

    def __init__(self, device: str, entries: Mapping[Kind, Mapping[Widths, float]], source: str):
        self.device = device
        self._entries, self._source = entries, source

    def milliseconds(self, spec: NetworkSpec, image_size: int = 224) -> float:
        """See `latency.LatencyModel`; widths between measured ones are interpolated linearly."""
        return sum(self._part(part) for part in parts(spec, image_size))

    def _part(self, part: Part) -> float:
        known = self._entries.get(part.kind, {})
        exact = known.get(part.widths)
        found = _interpolated(known, part.widths) if known and exact is None else exact
        if found is None:
            described = f'{part.name} of {"-".join(map(str, part.widths))} channels at {part.size} pixels'
            reason = 'other widths alone' if known else 'nothing like it'
            raise UserError(f'{self._source} has {reason} for a {described}: {part.made_of}.')
        return found


def _interpolated(known: Mapping[Widths, float], widths: Widths) -> float | None:
    """Between the corners of the measured cell around the widths, linear in each; None where there is none."""
    sides = []
    for axis, width in enumerate(widths):
        measured = {other[axis] for other in known}
        below, above = (value for value in measured if value <= width), (value for value in measured if value >= width)
        low, high = max(below, default=None), min(above, default=None)
        if low is None or high is None:
            return None
        share = 0.0 if low == high else (width - low) / (high - low)
        sides.append({low: 1 - share} | ({} if low == high else {high: share}))
    total = 0.0
    for corner in itertools.product(*sides):
        if corner not in known:
            return None
        total += known[corner] * np.prod([side[width] for side, width in zip(sides, corner, strict=True)])
    return float(total)


def rows_of(measured: Sequence[Part], milliseconds: Sequence[float]) -> list[dict[str, Any]]:
    """The entries of a table's file."""
    return [
        {
            'part': part.name,
            'size': part.size,
            'made_of': json.loads(part.made_of),
            'widths': list(part.widths),
            'milliseconds': float(ms),
        }
        for part, ms in zip(measured, milliseconds, strict=True)
    ]


def table_of(device: str, rows: Sequence[Mapping[str, Any]], source: str) -> MeasuredTable:
    """The model of `rows_of`, as a file has them; raises `UserError` where a row is none."""
    entries: dict[Kind, dict[Widths, float]] = {}
    for index, row in enumerate(rows):
        label = f'{source}: parts[{index}]'
        fits = isinstance(row, Mapping) and {'part', 'size', 'made_of', 'widths', 'milliseconds'} <= set(row)
        fits = fits and isinstance(row['widths'], list) and all(type(width) is int for width in row['widths'])
        check(fits, label, row, 'is no part of a measured table')
        kind = (row['part'], row['size'], json.dumps(row['made_of'], sort_keys=True))
        milliseconds = number_of(label, row['milliseconds'])
        check(0 < milliseconds < math.inf, label, milliseconds, 'must be a positive number of milliseconds')
        entries.setdefault(kind, {})[tuple(row['widths'])] = milliseconds
    return MeasuredTable(device, entries, source)


def read_measured(path: str) -> MeasuredTable:
    """A table that `latency --table` has written (JSON)."""
    found = read_object(path, json.loads)
    check(found.get('format') == FORMAT, path, found.get('format'), f'is no table of the format {FORMAT!r}')
    check(isinstance(found.get('parts'), list), f'{path}: parts', found.get('parts'), 'must be a list')
    return table_of(str(found.get('device')), found['parts'], path)


def errors(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    """How far the sums are from whole networks, in percent of these: mean and largest size, and mean with its sign."""
    off = 100 * (np.asarray(predicted) / np.asarray(measured) - 1)
    return {'mean': float(np.abs(off).mean()), 'largest': float(np.abs(off).max()), 'signed_mean': float(off.mean())}
