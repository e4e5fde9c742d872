"""`models`: what every network costs, beside what is published about it.

Ours is counted from the network that would run; published values are quoted as printed, with their source. Where a
paper and its own code disagree, the notes say so. `--task=detection` lists the published detectors.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.models import get_architecture, list_models
from mobilenets_jax.report import detectors_table
from mobilenets_jax.report.counts import count_model
from mobilenets_jax.tables import aligned, markdown

HEADER = ('network', 'width', 'size', 'parameters', 'BN stats', 'madds', 'paper: params', 'madds', 'top-1', 'source')
TEXT_COLUMNS = (0, len(HEADER) - 1)  # flush left; the others are numbers


class Table(NamedTuple):
    """The networks of a task as rows.

    Attributes:
        header: of the columns.
        text_columns: which of them are flush left.
        rows: what the parsed arguments ask for, ready for JSON; each has 'notes', a list of sentences about its
            'source', or else its 'name'.
        cells: of a row.
        about_notes: what the notes below the table are.
    """

    header: Sequence[str]
    text_columns: Sequence[int]
    rows: Callable[[argparse.Namespace], list[dict[str, Any]]]
    cells: Callable[[dict[str, Any]], list[str]]
    about_notes: str

    def notes(self, rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
        """The notes below the table, each once: the name that a sentence is about, and the sentence."""
        return list(dict.fromkeys((row.get('source', row['name']), note) for row in rows for note in row['notes']))


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('models', help='list the networks with their counts and published values')
    parser.add_argument('names', nargs='*', metavar='NAME', help='networks to list; all by default')
    parser.add_argument('--task', default='classification', help=f'one of {", ".join(TABLES)}')
    parser.add_argument('--width', type=float, help='width multiplier; 1.0 by default, of detectors all')
    parser.add_argument('--size', type=int, help='image size in pixels; 224 by default, of detectors the published one')
    parser.add_argument(
        '--convention', help='whose rules: tf, torchvision, keras, ...; tf by default, of detectors all'
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument('--json', action='store_true', help='print a list of objects')
    form.add_argument('--markdown', action='store_true', help='print the table as Markdown')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints the table that the parsed arguments ask for."""
    check(arguments.size is None or arguments.size > 0, '--size', arguments.size, 'must be positive')
    check_choice('--task', arguments.task, TABLES)
    table = TABLES[arguments.task]
    rows = table.rows(arguments)
    if arguments.json:
        print(json.dumps(rows, indent=2))
    elif arguments.markdown:
        print(markdown_table(table, rows))
    else:
        print(text_table(table, rows))


def _classifiers(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    width = 1.0 if arguments.width is None else arguments.width
    convention = arguments.convention or 'tf'
    names = arguments.names or _names_with(convention, width)
    return [describe(name, width, arguments.size or 224, convention) for name in names]


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


TABLES = {
    'classification': Table(HEADER, TEXT_COLUMNS, _classifiers, _cells, 'Where paper and code disagree:'),
    'detection': Table(
        detectors_table.HEADER,
        detectors_table.TEXT_COLUMNS,
        detectors_table.describe,
        detectors_table.cells,
        'What the sources print:',
    ),
}


def text_table(table: Table, rows: list[dict[str, Any]]) -> str:
    """Aligned columns, numbers to the right, and the notes below."""
    lines = aligned([table.header, *map(table.cells, rows)], table.text_columns)
    notes = [f'  {subject}: {note}' for subject, note in table.notes(rows)]
    if notes:
        lines += ['', table.about_notes, *notes]
    return '\n'.join(lines)


def markdown_table(table: Table, rows: list[dict[str, Any]]) -> str:
    """The same table and notes in Markdown."""
    lines = markdown([table.header, *map(table.cells, rows)], table.text_columns)
    notes = [f'- `{subject}`: {note}' for subject, note in table.notes(rows)]
    if notes:
        lines += ['', table.about_notes, '', *notes]
    return '\n'.join(lines)
