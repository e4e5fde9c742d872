"""`redesign`: what MobileNetV3's authors changed by hand in the table of a network that was found, step by step."""

import argparse
from collections.abc import Sequence

from mobilenets_jax.config import write_text
from mobilenets_jax.errors import check
from mobilenets_jax.models import create_model, get_spec
from mobilenets_jax.models.found import read_table, to_text
from mobilenets_jax.report.counts import count_module
from mobilenets_jax.search.found import Found, table_lines
from mobilenets_jax.search.latency import PAPERS, LatencyModel, latency_model
from mobilenets_jax.search.netadapt import as_table
from mobilenets_jax.search.redesign import STEM_CHANNELS, Step, redesigned
from mobilenets_jax.tables import aligned

HEADER = ('table', 'parameters', '', 'multiply-adds', '', 'predicted ms', '')


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('redesign', help="take MobileNetV3's manual steps on the table of a found network")
    parser.add_argument('table', metavar='TABLE.json', help='the network, as a search writes it')
    parser.add_argument('--out', required=True, metavar='F.json', help='the file to write')
    parser.add_argument('--stem', type=int, default=STEM_CHANNELS, help=f'its channels; {STEM_CHANNELS} by default')
    parser.add_argument(
        '--hard_swish_from',
        type=int,
        help='channels of the rows that have h-swish; by default those of the second half',
    )
    parser.add_argument('--latency', default=PAPERS, help=f'whose milliseconds; {PAPERS} by default')
    parser.add_argument('--latency_file', default='', help='of a table of latencies')
    parser.add_argument('--image_size', type=int, default=224, help='pixels; 224 by default')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints a line for each step and the rows of the last table, and writes it."""
    for option in ('stem', 'hard_swish_from', 'image_size'):
        value = getattr(arguments, option)
        check(value is None or value > 0, f'--{option}', value, 'must be positive')
    model = latency_model(arguments.latency, arguments.latency_file)
    name, text = read_table(arguments.table, arguments.table)
    start = get_spec(name, table=text)
    steps = [Step(name, start), *redesigned(start, arguments.stem, arguments.hard_swish_from)]
    lines = step_lines(steps, model, arguments.image_size)
    found = Found(f'{name}_redesigned', as_table(steps[-1].spec), {})
    write_text(arguments.out, found.json)
    about = f'predicted: {model.device}'
    if arguments.latency == PAPERS:
        about += ', by multiply-adds alone: it knows no nonlinearities'
    print('\n'.join([*lines, about, '', *table_lines(found.spec), f'table: {arguments.out}']))


def step_lines(steps: Sequence[Step], model: LatencyModel, image_size: int) -> list[str]:
    """A line for each table, with what it differs by from the one before.

    Args:
        steps: the first table and those after each step.
        model: of latency.
        image_size: in pixels.
    """
    rows, before = [], None
    for number, (name, spec) in enumerate(steps):
        counts = count_module(create_model(name, table=to_text(name, as_table(spec))), image_size)
        values = (counts.params / 1e6, counts.madds / 1e6, model.milliseconds(spec, image_size))
        is_same = number > 0 and spec == steps[number - 1].spec
        rows.append([f'{name}: as it was' if is_same else name, *_cells(values, before)])
        before = values
    return aligned([HEADER, *rows], text_columns=(0,))


def _cells(values: Sequence[float], before: Sequence[float] | None) -> list[str]:
    """Millions of parameters and of multiply-adds and milliseconds, each with its difference."""
    cells = []
    for number, (unit, decimals) in enumerate(((' M', 2), (' M', 1), ('', 2))):
        cells.append(f'{values[number]:.{decimals}f}{unit}')
        cells.append('' if before is None else f'{values[number] - before[number]:+.{decimals}f}')
    return cells
