"""Loss and headline metric over the steps of one run or several, as a picture."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mobilenets_jax.report.pictures import png
from mobilenets_jax.training.task import Measures, headline_metric

# How the rows of a kind are drawn where there is one run, and where several.
_ALONE = {'train': {'label': 'training'}, 'eval': {'label': 'evaluation', 'marker': 'o', 'color': 'C1'}}
_SEVERAL = {
    'train': {'linewidth': 0.7, 'alpha': 0.6},
    'eval': {'linewidth': 2.4, 'marker': 'o', 'markersize': 3.5},
}


class Curves(NamedTuple):
    """What is drawn of a run: its name, and the rows of its `metrics.jsonl`."""

    name: str
    rows: Sequence[Mapping[str, Any]]


def number(row: Mapping[str, Any], name: str) -> float:
    """A value of a row; not a number where it has none, or one that was not finite."""
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else math.nan


def draw_curves(runs: Sequence[Curves], measures: Measures, title: str | None = None) -> bytes:
    """The bytes of a PNG: of each run loss and headline metric over the steps, in training (thin) and evaluation.

    With several runs, each has a colour, and its name is in the legend.
    """
    from matplotlib.figure import Figure  # no part of pyplot, which is not for threads

    figure = Figure(figsize=(10, 4) if len(runs) == 1 else (13, 5.5), layout='constrained')
    loss_axes, headline_axes = figure.subplots(1, 2)
    headline = headline_metric(measures)
    for index, run in enumerate(runs):
        for kind, name in (('train', headline.in_training), ('eval', headline.name)):
            rows = [row for row in run.rows if row.get('kind') == kind]
            steps = [number(row, 'step') for row in rows]
            style = _ALONE[kind] if len(runs) == 1 else {**_SEVERAL[kind], 'color': f'C{index % 10}'}
            if len(runs) > 1 and kind == 'eval':
                style |= {'label': run.name.replace('$', r'\$'), 'linestyle': ('-', '--', ':')[index // 10 % 3]}
            losses = [number(row, 'loss') for row in rows]
            if not all(map(math.isnan, losses)):  # an evaluation of boxes has none
                loss_axes.plot(steps, losses, **style)
            if name:
                headline_axes.plot(steps, [number(row, name) for row in rows], **style)
    loss_axes.set(xlabel='step', ylabel='loss (in training with all regularisation)', yscale='log')
    headline_axes.set(xlabel='step', ylabel=f'{headline.label}, {headline.unit}'.removesuffix(', '))
    for axes in (loss_axes, headline_axes):
        axes.grid(alpha=0.3)
    for axes in (loss_axes, headline_axes) if len(runs) == 1 else (headline_axes,):
        axes.legend(fontsize=None if len(runs) <= 10 else 'x-small')
    figure.suptitle(title or 'evaluation thick, training thin')
    return png(figure, dpi=120)
