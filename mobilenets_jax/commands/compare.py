"""`compare`: several runs in one picture and one table."""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from mobilenets_jax.config import write_bytes
from mobilenets_jax.errors import UserError
from mobilenets_jax.identity import task_of
from mobilenets_jax.report.curves import Curves, draw_curves, number
from mobilenets_jax.tables import aligned
from mobilenets_jax.tasks import get_task
from mobilenets_jax.training.progress import read_metrics
from mobilenets_jax.training.task import Metric, headline_metric

TEXT_COLUMNS = (0, 1)


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('compare', help='draw several runs in one picture, and list their results')
    parser.add_argument('workdirs', nargs='+', metavar='WORKDIR', help='folders of runs, local or gs://')
    parser.add_argument('--out', metavar='PNG', default='compare.png', help='where the picture goes')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Compares the runs."""
    compare(arguments.workdirs, arguments.out)


def compare(workdirs: Sequence[str], out: str) -> None:
    """Reads the metrics of the runs, draws them and prints the table; one line counts the runs without metrics.

    Args:
        workdirs: of the runs, local or gs://.
        out: the PNG that is written; likewise.

    Raises:
        UserError: none has metrics, they are of several tasks, or the picture cannot be written.
    """
    rows = {workdir: _rows(workdir) for workdir in dict.fromkeys(workdirs)}
    without = [workdir for workdir, found in rows.items() if not found]
    kept = {workdir: found for workdir, found in rows.items() if found}
    if not kept:
        raise UserError(f'none of {", ".join(without)} has a metrics.jsonl with rows of a run.')
    if without:
        print(f'left out {len(without)} of {len(rows)}, without metrics: {", ".join(without)}', file=sys.stderr)
    names, configs = _names(list(kept)), {workdir: _config(workdir) for workdir in kept}
    measures = get_task(_one_task(configs)).measures
    png = draw_curves([Curves(names[workdir], found) for workdir, found in kept.items()], measures)
    try:
        write_bytes(out, png)
    except OSError as error:
        raise UserError(f'--out={out!r} cannot be written: {error.strerror or error}.') from error
    headline = headline_metric(measures)
    header = ('run', 'model', 'step', headline.label, 'best', 'at step', 'loss', 'images/s')
    cells = [_cells(names[workdir], configs[workdir], rows, headline) for workdir, rows in kept.items()]
    print('\n'.join(aligned([header, *cells], TEXT_COLUMNS)))
    print(f'picture: {out}')


def _rows(workdir: str) -> list[dict[str, Any]]:
    """The rows of a run's metrics that can be drawn; [] if it has none."""
    try:
        rows = read_metrics(epath.Path(workdir) / 'metrics.jsonl')
    except (OSError, ValueError):
        return []
    return [row for row in rows if isinstance(row, dict) and row.get('kind') in ('train', 'eval')]


def _names(workdirs: Sequence[str]) -> dict[str, str]:
    """What the runs are called: their folders; those of one name by their whole path."""
    folders = {workdir: epath.Path(workdir).name or workdir for workdir in workdirs}
    names = list(folders.values())
    return {workdir: name if names.count(name) == 1 else workdir for workdir, name in folders.items()}


def _config(workdir: str) -> dict[str, Any]:
    """The run's config; {} where that cannot be read."""
    try:
        config = json.loads((epath.Path(workdir) / 'config.json').read_text())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _one_task(configs: Mapping[str, Mapping[str, Any]]) -> str:
    """The task of all runs; raises `UserError` where it is not one."""
    first, *others = configs
    task = task_of(configs[first])
    for workdir in others:
        other = task_of(configs[workdir])
        if other != task:
            raise UserError(f'{workdir} is of the task {other!r}, {first} of {task!r}: they measure different things.')
    return task


def _model(config: Mapping[str, Any]) -> str:
    """The network in the run's config; '-' if the config does not name it."""
    try:
        return str(config['model']['name'])
    except (LookupError, TypeError):
        return '-'


def _cells(name: str, config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], headline: Metric) -> list[str]:
    """A line of the table: the last evaluation, the best one, and the speed at the last progress line."""
    evaluated = [row for row in rows if row['kind'] == 'eval']
    last = evaluated[-1] if evaluated else {}
    finite = [row for row in evaluated if math.isfinite(number(row, headline.name))]
    best = max(finite, key=lambda row: headline.score(number(row, headline.name)), default={})
    decimals = f'.{headline.decimals}f'
    speeds = [number(row, 'images_per_second') for row in rows if row['kind'] == 'train']
    return [
        name,
        _model(config),
        _printed(max(number(row, 'step') for row in rows), '.0f'),
        _printed(number(last, headline.name), decimals),
        _printed(number(best, headline.name), decimals),
        _printed(number(best, 'step'), '.0f'),
        _printed(number(last, 'loss'), '.4f'),
        _printed(speeds[-1] if speeds else math.nan, '.0f'),
    ]


def _printed(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else '-'
