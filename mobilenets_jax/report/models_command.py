"""`models`: what every network costs, beside what is published about it.

Ours is counted from the network that would run; published values are quoted as printed, with their source. Where a
paper and its own code disagree, the notes say so.
"""

import argparse
import dataclasses
import json
from typing import Any

from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.models import get_architecture, list_models
from mobilenets_jax.report.counts import count_model
from mobilenets_jax.tables import aligned

HEADER = ('network', 'width', 'size', 'parameters', 'BN stats', 'madds', 'paper: params', 'madds', 'top-1', 'source')
TEXT_COLUMNS = (0, len(HEADER) - 1)  # flush left; the others are numbers


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('models', help='list the networks with their counts and published values')
    parser.add_argument('names', nargs='*', metavar='NAME', help='networks to list; all by default')
    parser.add_argument('--width', type=float, default=1.0, help='width multiplier')
    parser.add_argument('--size', type=int, default=224, help='image size in pixels')
    parser.add_argument('--convention', default='tf', help='whose rules: tf, torchvision, keras, ...')
    form = parser.add_mutually_exclusive_group()
    form.add_argument('--json', action='store_true', help='print a list of objects')
    form.add_argument('--markdown', action='store_true', help='print the table as Markdown')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints the table that the parsed arguments ask for."""
    check(arguments.size > 0, '--size', arguments.size, 'must be positive')
    names = arguments.names or _names_with(arguments.convention, arguments.width)
    rows = [describe(name, arguments.width, arguments.size, arguments.convention) for name in names]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    elif arguments.markdown:
        print(markdown_table(rows))
    else:
        print(text_table(rows))


def _names_with(convention: str, width_multiplier: float) -> list[str]:
    """The networks that have this width and know `convention`, which at least one must."""
    architectures = [get_architecture(name) for name in list_models()]
    known = {convention for architecture in architectures for convention in architecture.conventions}
    check_choice('--convention', convention, known)
    return [
        architecture.name
        for architecture in architectures
        if convention in architecture.conventions
        and (architecture.widths is None or width_multiplier in architecture.widths)
    ]


def describe(name: str, width_multiplier: float, image_size: int, convention: str) -> dict[str, Any]:
    """Everything the command prints about one network, ready for JSON.

    Returns:
        `name`, `width_multiplier`, `image_size` (pixels), `convention`; ours: `params` (trainable), `batch_stats`,
        `norm_params` (contained in `params`), `madds`; `published`: None or an object of `params` and `madds` in
        millions, `top1` in percent, `source`; `notes`: a list of sentences.
    """
    architecture = get_architecture(name)
    counts = count_model(name, width_multiplier=width_multiplier, image_size=image_size, convention=convention)
    published = architecture.published.get((width_multiplier, image_size))
    return {
        'name': name,
        'width_multiplier': width_multiplier,
        'image_size': image_size,
        'convention': convention,
        **dataclasses.asdict(counts),
        'published': published and dataclasses.asdict(published),
        'notes': list(architecture.notes),
    }


def _cells(row: dict[str, Any]) -> list[str]:
    published = row['published'] or {'params': None, 'madds': None, 'top1': None, 'source': ''}

    def printed(value: float | None, unit: str = '') -> str:
        return '-' if value is None else f'{value:g}{unit}'

    return [
        row['name'],
        f'{row["width_multiplier"]:g}',
        str(row['image_size']),
        f'{row["params"]:,}',
        f'{row["batch_stats"]:,}',
        f'{row["madds"]:,}',
        printed(published['params'], 'M'),
        printed(published['madds'], 'M'),
        printed(published['top1']),
        published['source'],
    ]


def text_table(rows: list[dict[str, Any]]) -> str:
    """Aligned columns, numbers to the right, and the notes below."""
    lines = aligned([HEADER, *map(_cells, rows)], TEXT_COLUMNS)
    notes = [f'  {row["name"]}: {note}' for row in rows for note in row['notes']]
    if notes:
        lines += ['', 'Where paper and code disagree:', *notes]
    return '\n'.join(lines)


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """The same table and notes in Markdown."""
    rule = ['---' if column in TEXT_COLUMNS else '---:' for column in range(len(HEADER))]
    lines = ['| ' + ' | '.join(line) + ' |' for line in [HEADER, rule, *(_cells(row) for row in rows)]]
    notes = [f'- `{row["name"]}`: {note}' for row in rows for note in row['notes']]
    if notes:
        lines += ['', 'Where paper and code disagree:', '', *notes]
    return '\n'.join(lines)
