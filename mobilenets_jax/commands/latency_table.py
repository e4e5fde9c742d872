"""`latency --table`: a table of latencies measured here, by which a search predicts those of whole networks."""

import argparse
import ast
import importlib.metadata
import os
import sys
from typing import Any

from mobilenets_jax import __version__, machine
from mobilenets_jax.config import write_json
from mobilenets_jax.errors import UserError, check, needed
from mobilenets_jax.latency_table import Plan, litert_timer, measured, plan_of_network, plan_of_space
from mobilenets_jax.models import get_spec
from mobilenets_jax.models.found import read_table
from mobilenets_jax.search.spaces import get_space

_PACKAGE = 'ai-edge-litert'
IMAGE_SIZE = 224


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of tables to `latency`."""
    parser.add_argument(
        '--table',
        metavar='TABLE.json',
        help='write a table for searches (search.latency=measured): of --space, or of one network, NAME[:WIDTH] or '
        'F.json, at a grid of widths for NetAdapt',
    )
    parser.add_argument('--space', help='of --table: the search space')
    parser.add_argument('--options', help='of --space, as search.options, e.g. "((\'/kernel$\', (3, 5)),)"')
    parser.add_argument('--width', type=float, help='of --space, the width multiplier; 1 by default')


def asked(arguments: argparse.Namespace) -> bool:
    """Whether a table is; raises `UserError` for an option that has no effect without one."""
    for option in ('space', 'options', 'width'):
        value = getattr(arguments, option)
        check(arguments.table is not None or value is None, f'--{option}', value, 'has no effect without --table')
    return arguments.table is not None


def run(arguments: argparse.Namespace) -> None:
    """Measures and writes the table, and prints how far its sums are from whole networks."""
    for option in ('threads', 'runs', 'image_size'):
        value = getattr(arguments, option)
        check(value is None or value > 0, f'--{option}', value, 'must be positive')
    for option in ('fit', 'int8'):
        check(not getattr(arguments, option), f'--{option}', True, 'has no effect with --table')
    plan = _plan(arguments)
    needed('ai_edge_litert.interpreter')
    print(f'{plan.name}: timing {len(plan.parts)} parts and {len(plan.networks)} networks', file=sys.stderr, flush=True)
    version, threads = importlib.metadata.version(_PACKAGE), arguments.threads
    facts = {
        'versions': {_PACKAGE: version, 'mobilenets_jax': __version__},
        **{'threads': threads, 'runs': arguments.runs, 'load': os.getloadavg()[0], 'cores': os.cpu_count()},
        **({} if arguments.space is None else {'options': arguments.options or '()', 'width': arguments.width or 1.0}),
    }
    device = f'{machine.processor_name()}, LiteRT {version}, {threads} thread{"s" if threads > 1 else ""}'
    table = measured(plan, litert_timer(plan.image_size, threads, arguments.runs), device, facts)
    write_json(arguments.table, table)
    print(text(table, arguments.table))


def _plan(arguments: argparse.Namespace) -> Plan:
    size = arguments.image_size or IMAGE_SIZE
    if arguments.space is not None:
        check(not arguments.networks, '--space', arguments.space, 'makes a table by itself: name no networks')
        width = 1.0 if arguments.width is None else arguments.width
        check(width > 0, '--width', width, 'must be positive')
        return plan_of_space(get_space(arguments.space).restricted(_options(arguments.options)), width, size)
    for option in ('options', 'width'):
        value = getattr(arguments, option)
        check(value is None, f'--{option}', value, 'has no effect without --space')
    if len(arguments.networks) != 1:
        raise UserError('--table needs --space=NAME, or one network: NAME, NAME:WIDTH or F.json.')
    (network,) = arguments.networks
    if network.endswith('.json'):
        name, table = read_table(network, network)
        return plan_of_network(name, get_spec(name, table=table), size)
    return plan_of_network(network, get_spec(*name_and_width(network)), size)


def name_and_width(network: str) -> tuple[str, float]:
    """The name and the width multiplier in 'NAME' or 'NAME:WIDTH'; raises `UserError` for a width that is no number."""
    name, colon, width = network.partition(':')
    try:
        return name, float(width) if colon else 1.0
    except ValueError:
        raise UserError(f'{network!r}: the width {width!r} is no number, such as 0.75.') from None


def _options(given: str | None) -> tuple:
    try:
        options = () if given is None else ast.literal_eval(given)
    except (ValueError, SyntaxError) as error:
        raise UserError(f'--options={given!r} is no Python tuple: {error}.') from None
    check(isinstance(options, tuple | list), '--options', given, 'must be pairs of a pattern and options')
    return tuple(options)


def text(table: dict[str, Any], path: str) -> str:
    """What is said of a table."""
    off = table['error_percent']
    return (
        f'{len(table["parts"])} parts of {table["of"]} at {table["image_size"]} pixels on {table["device"]}\n'
        f'sums against {len(table["networks"])} whole networks: {off["mean"]:.1f} % off in the mean, '
        f'{off["largest"]:.1f} % at most, {off["signed_mean"]:+.1f} % with the sign\n'
        f'table: {path}'
    )
