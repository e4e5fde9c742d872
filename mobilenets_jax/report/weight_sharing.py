"""The course of a search with shared weights, as a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

from mobilenets_jax.report.curves import number
from mobilenets_jax.report.pictures import png
from mobilenets_jax.training.task import Measures

# Of each panel: the metric of the networks that are drawn, that of the likeliest network or of the controller.
_PANELS = (('reward', 'reward'), ('held_out', ''), ('milliseconds', 'milliseconds'), ('', 'certainty'))
_EVALUATED = {'reward': 'moving average', 'milliseconds': 'the likeliest network'}


def draw_search(rows: Sequence[Mapping[str, Any]], measures: Measures, target_ms: float, warmup_steps: int) -> bytes:
    """The bytes of a PNG: reward, held-out accuracy, latency and certainty over the steps.

    Args:
        rows: of the `metrics.jsonl` of a search.
        measures: its task, see `search.weight_sharing.SharedWeightsTask`.
        target_ms: the latency that was asked for.
        warmup_steps: the controller does not learn before.
    """
    return png(search_figure(rows, measures, target_ms, warmup_steps), dpi=120)


def search_figure(rows: Sequence[Mapping[str, Any]], measures: Measures, target_ms: float, warmup_steps: int) -> Any:
    """The same as a figure of Matplotlib; arguments as of `draw_search`."""
    from matplotlib.figure import Figure  # no part of pyplot, which is not for threads

    figure = Figure(figsize=(10, 7), layout='constrained')
    drawn, evaluated = ([row for row in rows if row.get('kind') == kind] for kind in ('train', 'eval'))
    labels = {metric.name: metric for metric in (*measures.metrics, *measures.logged)}
    for axes, (of_drawn, of_evaluated) in zip(figure.subplots(2, 2, sharex=True).flat, _PANELS, strict=True):
        metric = labels[of_drawn or of_evaluated]
        if of_drawn:
            _plot(axes, drawn, of_drawn, linewidth=0.8, label='the networks drawn')
        if of_evaluated:
            _plot(
                axes,
                evaluated,
                of_evaluated,
                marker='o',
                markersize=3.5,
                color='C1',
                label=_EVALUATED.get(of_evaluated),
            )
        if metric.name == 'milliseconds':
            axes.axhline(target_ms, color='0.3', linestyle='--', label='target')
        if warmup_steps:
            axes.axvline(warmup_steps, color='0.7', linestyle=':')
        axes.set(ylabel=f'{metric.label}, {metric.unit}'.removesuffix(', '))
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize='small')
    for axes in figure.axes[-2:]:
        axes.set_xlabel('step (dotted: from here on the controller learns)' if warmup_steps else 'step')
    figure.suptitle('Search with shared weights')
    return figure


def _plot(axes: Any, rows: Sequence[Mapping[str, Any]], name: str, **style: Any) -> None:
    axes.plot([number(row, 'step') for row in rows], [number(row, name) for row in rows], **style)
