"""Makes tables of latencies measured here, for a space or for a network that NetAdapt starts from.

See `search.measured_latency` for what a table holds. The parts of the networks, and some whole networks by which the
table is judged, take turns in one measurement.
"""

import dataclasses
import datetime
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np

from mobilenets_jax.errors import UserError, check
from mobilenets_jax.export.parts import Stem, Tail, block, part_files
from mobilenets_jax.export.timing import TimedNetwork, measure
from mobilenets_jax.models.layers import LayerSettings
from mobilenets_jax.models.network import ImageClassifier
from mobilenets_jax.models.scaling import scale
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.search.channels import SQUEEZED, Channels, adds_residual
from mobilenets_jax.search.channels import STEM as STEM_GROUP
from mobilenets_jax.search.measured_latency import (
    BLOCK,
    FORMAT,
    STEM,
    Kind,
    Part,
    Widths,
    block_part,
    errors,
    has_expansion,
    parts,
    rows_of,
    table_of,
)
from mobilenets_jax.search.operations import Position, positions
from mobilenets_jax.search.space import Space
from mobilenets_jax.search.super_network import SuperNetwork

MOST_PARTS = 3000  # of a table; more take hours
WHOLE_NETWORKS = 10  # that are measured beside the parts
_FIRST_DRAWS = 250  # networks of a space; as many again are drawn until they bring no part that is new

# From parts and whole networks to the milliseconds of each of both.
Timer = Callable[[Sequence[Part], Sequence[NetworkSpec]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        name: of the space or the network.
        image_size: in pixels.
        parts: each once.
        networks: whole ones, of the same parts or of widths between them.
    """

    name: str
    image_size: int
    parts: Sequence[Part]
    networks: Sequence[NetworkSpec]


def plan_of_space(space: Space, width_multiplier: float, image_size: int) -> Plan:
    """All parts of the networks of a space, and some of its networks.

    Args:
        space: the space.
        width_multiplier: of all of its networks.
        image_size: in pixels.

    Raises:
        UserError: the space has more parts than can be measured.
    """
    network, rng = _network_of(space, width_multiplier), np.random.default_rng(0)
    found: dict[tuple[Kind, Widths], Part] = {}
    draws, before = _FIRST_DRAWS, -1
    while len(found) > before:
        before = len(found)
        for decisions in space.sample(rng, draws):
            for part in parts(network(decisions), image_size):
                found.setdefault((part.kind, part.widths), part)
        requirement = f'has more than {MOST_PARTS} parts to be measured: --options can leave options out'
        check(len(found) <= MOST_PARTS, '--space', space.name, requirement)
        draws = draws if before == 0 else 2 * draws
    networks = [network(decisions) for decisions in space.sample(rng, WHOLE_NETWORKS)]
    return Plan(space.name, image_size, list(found.values()), networks)


def _network_of(space: Space, width_multiplier: float) -> Callable[[Sequence[int]], NetworkSpec]:
    """From decisions to the network as a search has it: where weights can be shared, as a part of the largest one."""

    def resolve(spec: NetworkSpec) -> NetworkSpec:
        return scale(spec, width_multiplier, spec.convention)

    try:
        return SuperNetwork(space, resolve).network
    except UserError:
        return lambda decisions: resolve(space.spec(decisions))


def plan_of_network(name: str, spec: NetworkSpec, image_size: int) -> Plan:
    """The parts of a network at a grid of widths, between which NetAdapt's candidates are interpolated; some of these.

    Args:
        name: of the network.
        spec: its table, with rows of `BlockSpec`.
        image_size: in pixels.
    """
    channels, rng = Channels(spec), np.random.default_rng(0)
    base = channels.narrowed(channels.widths)
    found = {(part.kind, part.widths): part for part in _grid(channels, base, image_size)}
    check(len(found) <= MOST_PARTS, name, len(found), f'parts are more than the {MOST_PARTS} that can be measured')
    others = [channels.narrowed(_random_widths(channels, rng)) for _ in range(WHOLE_NETWORKS - 1)]
    return Plan(name, image_size, list(found.values()), [base, *others])


def _grid(channels: Channels, base: NetworkSpec, image_size: int) -> Iterator[Part]:
    """Stem, blocks and tail; blocks of one kind at all widths that any of them is to be measured at."""
    divisor = base.convention.divisor

    def grid(group: str) -> list[int]:
        """The least width that NetAdapt goes to, half of the channels, three quarters, all; the stem is left alone."""
        width = channels.widths[group]
        if group == STEM_GROUP:
            return [width]
        shares = (round(width * share / divisor) * divisor for share in (0.5, 0.75))
        return [min(divisor, width), *(share for share in shares if share), width]

    stem, *_, tail = parts(base, image_size)
    yield stem
    axes, examples = {}, {}
    for position, groups in zip(positions(base, image_size), channels.blocks, strict=True):
        part = block_part(base, position)
        free = [] if adds_residual(position) else [groups.inputs]
        free += [groups.middle] if has_expansion(position.row, position.in_channels) else []
        for side, group in zip(
            axes.setdefault(part.kind, [set() for _ in part.widths]), [*free, groups.outputs], strict=True
        ):
            side.update(grid(group))
        examples[part.kind] = position
    for kind, sides in axes.items():
        for widths in itertools.product(*map(sorted, sides)):
            yield _resized(base, examples[kind], widths)
    for width in sorted(set(grid(channels.blocks[-1].outputs))):
        yield tail._replace(in_channels=width, widths=(width, *tail.widths[1:]))


def _resized(base: NetworkSpec, position: Position, widths: Widths) -> Part:
    """A block at other widths.

    Where its expansion would be as wide as its input, and not be there, it is timed with a channel more.
    """
    row, out_channels = position.row, widths[-1]
    inputs = out_channels if adds_residual(position) else widths[0]
    if has_expansion(row, position.in_channels):
        expanded = widths[-2] + (widths[-2] == inputs)
    else:
        expanded = out_channels if row.kind == 'dense_conv' else inputs
    row = dataclasses.replace(row, expanded=expanded, out_channels=out_channels)
    return block_part(base, position._replace(row=row, in_channels=inputs))._replace(widths=widths)


def _random_widths(channels: Channels, rng: np.random.Generator) -> dict[str, int]:
    """Of every group from half of its channels to all, in steps of the divisor, with all expansions kept."""
    divisor = channels.spec.convention.divisor
    while True:
        widths = dict(channels.widths)
        for group, width in widths.items():
            if group != STEM_GROUP and not group.endswith(SQUEEZED):
                widths[group] = divisor * int(rng.integers(max(1, width // divisor // 2), width // divisor + 1))
        if channels.keeps_expansions(widths):
            return widths


def measured(plan: Plan, timer: Timer, device: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of a table's file.

    Args:
        plan: what is measured.
        timer: measures it.
        device: what on.
        facts: what else is to be kept, JSON-able.
    """
    milliseconds = timer(plan.parts, plan.networks)
    of_parts, of_networks = milliseconds[: len(plan.parts)], milliseconds[len(plan.parts) :]
    rows = rows_of(plan.parts, of_parts)
    table = table_of(device, rows, plan.name)
    predicted = [table.milliseconds(network, plan.image_size) for network in plan.networks]
    return {
        'format': FORMAT,
        'of': plan.name,
        'image_size': plan.image_size,
        'device': device,
        'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        **facts,
        'error_percent': errors(np.array(predicted), of_networks),
        'networks': [
            {'milliseconds': float(ms), 'predicted': float(guess)}
            for ms, guess in zip(of_networks, predicted, strict=True)
        ],
        'parts': rows,
    }


def litert_timer(image_size: int, threads: int, runs: int) -> Timer:
    """The median of the runs of each part and network, all of them taking turns, by LiteRT."""

    def timer(timed_parts: Sequence[Part], networks: Sequence[NetworkSpec]) -> np.ndarray:
        modules = [(module_of(part), part.size, part.in_channels) for part in timed_parts]
        modules += [(_classifier(network), image_size, 3) for network in networks]
        files = part_files(modules)
        timed = [TimedNetwork(content, f'part {number}', threads) for number, content in enumerate(files, start=1)]
        return np.median(measure(timed, runs), axis=1)

    return timer


def _settings(spec: NetworkSpec) -> LayerSettings:
    return LayerSettings(padding=spec.convention.padding, bn_epsilon=spec.convention.bn_epsilon)


def module_of(part: Part) -> nn.Module:
    """The layers of a part."""
    make = {STEM: Stem, BLOCK: block}.get(part.name, Tail)
    return make(part.spec, _settings(part.spec))


def _classifier(spec: NetworkSpec) -> ImageClassifier:
    return ImageClassifier(spec, _settings(spec), 1000, dropout_rate=0.0)
