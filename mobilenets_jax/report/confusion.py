"""A confusion matrix as a picture, and tables as files."""

from collections.abc import Iterable, Sequence

import numpy as np
from etils import epath

from mobilenets_jax.report.pictures import png
from mobilenets_jax.tables import comma_separated, printable

# With at most this number of classes the picture has their names and counts; with more, the most confused pairs.
NAMED_CLASSES = 30
LISTED_PAIRS = 30
NAME_LENGTH = 24  # characters, in the picture
CELL_INCHES = 0.42


def write_csv(folder: str, name: str, lines: Iterable[Sequence[object]]) -> None:
    """Writes a file `name` of comma-separated values; raises `OSError` where it cannot."""
    (epath.Path(folder) / name).write_bytes(comma_separated(lines))


def write_confusion(folder: str, matrix: np.ndarray, names: Sequence[str], *, of: str) -> None:
    """Writes a confusion matrix as `confusion.csv` and as `confusion.png`; raises `OSError` where it cannot.

    Args:
        folder: local or gs://.
        matrix: as of `draw_confusion`; it may have fewer labels than classes.
        names: of the classes, the labels first.
        of: as of `draw_confusion`.
    """
    lines = [[name, *map(int, row)] for name, row in zip(names[: len(matrix)], matrix, strict=True)]
    write_csv(folder, 'confusion.csv', [['label / predicted', *names], *lines])
    (epath.Path(folder) / 'confusion.png').write_bytes(draw_confusion(matrix, names, of=of))


def draw_confusion(matrix: np.ndarray, names: Sequence[str], *, of: str) -> bytes:
    """The picture of a confusion matrix as the bytes of a PNG: each row in percent of its label.

    Args:
        matrix: how many of each label (row) were taken for each class (column).
        names: of the classes.
        of: what was counted: 'images' (the picture has numbers) or 'pixels' (it has percentages).
    """
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    draw = _draw_named if len(matrix) <= NAMED_CLASSES else _draw_many
    # A dollar sign would begin a formula.
    names = [printable(name, NAME_LENGTH).replace('$', r'\$') for name in names]
    return png(draw(matrix, share, names, of), dpi=100)


def _draw_named(matrix: np.ndarray, share: np.ndarray, names: Sequence[str], of: str):
    """Every cell with its count, every row and column with its name."""
    from matplotlib.figure import Figure

    rows, columns = matrix.shape
    figure = Figure(figsize=(3.5 + CELL_INCHES * columns, 3 + CELL_INCHES * rows), layout='constrained')
    axes = figure.subplots()
    _show(figure, axes, share, of)
    for (row, column), count in np.ndenumerate(matrix):
        text = str(count) if of == 'images' else f'{share[row, column]:.0f}'
        if text != '0':
            colour = 'white' if share[row, column] > 25 else 'black'
            axes.text(column, row, text, ha='center', va='center', color=colour, fontsize='x-small')
    axes.set_xticks(range(columns), names[:columns], rotation=90, fontsize='small')
    axes.set_yticks(range(rows), names[:rows], fontsize='small')
    return figure


def _draw_many(matrix: np.ndarray, share: np.ndarray, names: Sequence[str], of: str):
    """A point for each cell, and a list of the pairs that are confused most often."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(17, 12), layout='constrained')
    axes, text = figure.subplots(1, 2, width_ratios=(2.6, 1))
    _show(figure, axes, share, of)
    text.axis('off')
    text.text(0, 1, _most_confused(matrix, names), va='top', fontsize='small', linespacing=1.5)
    return figure


def _show(figure, axes, share: np.ndarray, of: str) -> None:
    from matplotlib.colors import PowerNorm

    norm = PowerNorm(0.5, vmin=0, vmax=100)  # so that a few percent are visible next to a hundred
    picture = axes.imshow(share, cmap='Blues', norm=norm, interpolation='nearest', aspect='auto')
    axes.set(xlabel='predicted', ylabel='label')
    figure.colorbar(picture, ax=axes, label=f"percent of the label's {of}", shrink=0.7, ticks=(0, 1, 5, 20, 50, 100))


def _most_confused(matrix: np.ndarray, names: Sequence[str]) -> str:
    """A line for each of the pairs that are confused most often."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    cells = np.argsort(-wrong, axis=None, kind='stable')[:LISTED_PAIRS]
    pairs = [np.unravel_index(cell, wrong.shape) for cell in cells]
    lines = [
        f'{wrong[row, column]} of {matrix[row].sum()}: {names[row]} taken for {names[column]}'
        for row, column in pairs
        if wrong[row, column]
    ]
    return '\n'.join(['confused most often', '', *(lines or ['nothing'])])
