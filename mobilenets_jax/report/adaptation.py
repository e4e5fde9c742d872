"""Accuracy and latency of all networks that NetAdapt tried, as a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

from mobilenets_jax.report.pictures import png
from mobilenets_jax.training.task import Metric


def draw_candidates(start: Mapping[str, float], rounds: Sequence[Mapping[str, Any]], metric: Metric) -> bytes:
    """The bytes of a PNG: every candidate as a dot, and the networks of the rounds as a line.

    Args:
        start: 'score' and 'milliseconds' of the first network.
        rounds: of each the 'accuracy' (a score) and 'milliseconds' of the network that was taken, and the rows of
            all candidates as 'tried'.
        metric: what the scores are of.
    """
    from matplotlib.figure import Figure  # no part of pyplot, which is not for threads

    figure = Figure(figsize=(8, 5), layout='constrained')
    axes = figure.subplots()
    tried = [row for one in rounds for row in one['tried'] if row['accuracy'] is not None]
    axes.plot(
        [row['milliseconds'] for row in tried],
        [metric.score(row['accuracy']) for row in tried],
        '.',
        color='0.6',
        label='candidates',
    )
    taken = [(start['milliseconds'], start['score']), *((row['milliseconds'], row['accuracy']) for row in rounds)]
    axes.plot(
        [ms for ms, _ in taken], [metric.score(score) for _, score in taken], 'o-', label='networks of the rounds'
    )
    axes.set(xlabel='predicted milliseconds', ylabel=f'{metric.label}, {metric.unit}'.removesuffix(', '))
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_title('NetAdapt: each network after its short training, on the images to choose by')
    return png(figure, dpi=120)
