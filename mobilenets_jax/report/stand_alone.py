"""Accuracy and latency of all networks that a search trained one by one, and their rewards, as a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

from mobilenets_jax.report.pictures import png


def pareto(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Milliseconds and accuracy of the networks than which no faster or equal one is as accurate, from the fastest."""
    front: list[tuple[float, float]] = []
    for milliseconds, accuracy in sorted((row['milliseconds'], row['accuracy']) for row in rows):
        if front and front[-1][0] == milliseconds:
            front.pop()
        if not front or accuracy > front[-1][1]:
            front.append((milliseconds, accuracy))
    return front


def draw_networks(rows: Sequence[Mapping[str, Any]], target_ms: float) -> bytes:
    """The bytes of a PNG: the networks as dots with their Pareto front, and the reward of each in their order.

    Args:
        rows: of each network 'milliseconds', 'accuracy' in percent or None, and 'reward'.
        target_ms: the latency that was asked for.
    """
    return png(networks_figure(rows, target_ms), dpi=120)


def networks_figure(rows: Sequence[Mapping[str, Any]], target_ms: float) -> Any:
    """The same as a figure of Matplotlib; arguments as of `draw_networks`."""
    from matplotlib.figure import Figure  # no part of pyplot, which is not for threads

    figure = Figure(figsize=(12, 5), layout='constrained')
    plane, course = figure.subplots(1, 2)
    numbered = [(number, row) for number, row in enumerate(rows, start=1) if row['accuracy'] is not None]
    trained = [row for _, row in numbered]
    dots = plane.scatter(
        [row['milliseconds'] for row in trained],
        [row['accuracy'] for row in trained],
        c=[number for number, _ in numbered],
        s=12,
    )
    figure.colorbar(dots, ax=plane, label='number of the network')
    front = pareto(trained)
    plane.plot([ms for ms, _ in front], [accuracy for _, accuracy in front], color='C3', label='Pareto front')
    plane.axvline(target_ms, color='0.3', linestyle='--', label='target')
    plane.set(xlabel='predicted milliseconds', ylabel='accuracy after the short training, %')
    plane.legend()
    best, course_of_best = -float('inf'), []
    for row in trained:
        best = max(best, row['reward'])
        course_of_best.append(best)
    numbers = [number for number, _ in numbered]
    course.plot(numbers, [row['reward'] for row in trained], '.', color='0.6', label='each network')
    course.plot(numbers, course_of_best, label='the best until then')
    course.set(xlabel='number of the network', ylabel='reward')
    course.legend()
    for axes in (plane, course):
        axes.grid(alpha=0.3)
    figure.suptitle('Networks trained one by one, on the images to choose by')
    return figure
