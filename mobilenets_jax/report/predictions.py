"""What a classifier makes of an evaluation set: every prediction, the classes, and which it takes for which.

predictions.csv has a row for each image, per_class.csv one for each class. confusion.csv says how many images of each
class (row) were taken for each class (column), and confusion.png is the same as a picture.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from etils import epath

from mobilenets_jax.errors import UserError

# Up to so many classes the picture has their names and the counts; beyond it, the pairs that are confused most.
NAMED_CLASSES = 30
LISTED_PAIRS = 30
NAME_LENGTH = 24  # characters, in the picture
CELL_INCHES = 0.42

Rows = Mapping[str, np.ndarray]


def write_report(
    folder: str, rows: Rows, class_names: Sequence[str], num_outputs: int, images: Sequence[str] | None
) -> None:
    """Writes the four files.

    Args:
        folder: local or gs://.
        rows: 'label', 'predicted', 'probability' and 'top1' of each example, [n], in the order of the set.
        class_names: label to name.
        num_outputs: of the network, which may have more than there are classes.
        images: what the examples are called, such as their files; None: by their index.

    Raises:
        UserError: a file cannot be written.
    """
    names = [*class_names, *(f'class {index}' for index in range(len(class_names), num_outputs))]
    matrix = confusion_matrix(rows, len(class_names), num_outputs)
    try:
        _write_csv(folder, 'predictions.csv', _prediction_lines(rows, names, images))
        _write_csv(folder, 'per_class.csv', _class_lines(matrix, names))
        lines = ([name, *map(int, row)] for name, row in zip(class_names, matrix, strict=True))
        _write_csv(folder, 'confusion.csv', [['label / predicted', *names], *lines])
        (epath.Path(folder) / 'confusion.png').write_bytes(draw_confusion(matrix, names))
    except OSError as error:
        raise UserError(f'--report={folder!r} cannot be written: {error.strerror or error}.') from error


def confusion_matrix(rows: Rows, num_classes: int, num_outputs: int) -> np.ndarray:
    """How many examples of each label (row) were taken for each class (column), int64 [num_classes, num_outputs]."""
    cells = rows['label'].astype(np.int64) * num_outputs + rows['predicted']
    return np.bincount(cells, minlength=num_classes * num_outputs).reshape(num_classes, num_outputs)


def _prediction_lines(rows: Rows, names: Sequence[str], images: Sequence[str] | None) -> Iterable[Sequence[object]]:
    yield 'image', 'label', 'label_name', 'predicted', 'predicted_name', 'probability', 'correct'
    columns = (rows[name] for name in ('label', 'predicted', 'probability', 'top1'))
    for index, (label, predicted, probability, correct) in enumerate(zip(*columns, strict=True)):
        image = index if images is None else images[index]
        yield image, label, names[label], predicted, names[predicted], f'{probability:.6g}', int(correct)


def _class_lines(matrix: np.ndarray, names: Sequence[str]) -> Iterable[Sequence[object]]:
    yield 'class', 'name', 'images', 'correct', 'top1', 'predicted'
    for label, row in enumerate(matrix):
        count, correct = row.sum(), row[label]
        top1 = f'{100 * correct / count:.6g}' if count else ''
        yield label, names[label], count, correct, top1, matrix[:, label].sum()


def _write_csv(folder: str, name: str, lines: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(lines)
    # A file's name may be no text at all: it comes out as the bytes that it has on the disk.
    (epath.Path(folder) / name).write_bytes(text.getvalue().encode('utf-8', 'surrogateescape'))


def draw_confusion(matrix: np.ndarray, names: Sequence[str]) -> bytes:
    """The picture of a confusion matrix as the bytes of a PNG: each row in percent of its label's images."""
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    png = io.BytesIO()
    draw = _draw_named if len(matrix) <= NAMED_CLASSES else _draw_many
    draw(matrix, share, [_short(name) for name in names]).savefig(png, dpi=100)
    return png.getvalue()


def _short(name: str) -> str:
    """A name as it can be drawn: of printable letters, with no formula in it."""
    text = ''.join(letter if letter.isprintable() else '?' for letter in name).replace('$', r'\$')
    return text if len(text) <= NAME_LENGTH else f'{text[: NAME_LENGTH - 1]}…'


def _draw_named(matrix: np.ndarray, share: np.ndarray, names: Sequence[str]):
    """Every cell with its count, every row and column with its name."""
    from matplotlib.figure import Figure

    rows, columns = matrix.shape
    figure = Figure(figsize=(3.5 + CELL_INCHES * columns, 3 + CELL_INCHES * rows), layout='constrained')
    axes = figure.subplots()
    _show(figure, axes, share)
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            colour = 'white' if share[row, column] > 25 else 'black'
            axes.text(column, row, str(count), ha='center', va='center', color=colour, fontsize='x-small')
    axes.set_xticks(range(columns), names[:columns], rotation=90, fontsize='small')
    axes.set_yticks(range(rows), names[:rows], fontsize='small')
    return figure


def _draw_many(matrix: np.ndarray, share: np.ndarray, names: Sequence[str]):
    """A point for each cell, and beside it the pairs that are confused most often."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(17, 12), layout='constrained')
    axes, text = figure.subplots(1, 2, width_ratios=(2.6, 1))
    _show(figure, axes, share)
    text.axis('off')
    text.text(0, 1, _most_confused(matrix, names), va='top', fontsize='small', linespacing=1.5)
    return figure


def _show(figure, axes, share: np.ndarray) -> None:
    from matplotlib.colors import PowerNorm

    norm = PowerNorm(0.5, vmin=0, vmax=100)  # by which a few percent can be seen beside a hundred
    picture = axes.imshow(share, cmap='Blues', norm=norm, interpolation='nearest', aspect='auto')
    axes.set(xlabel='predicted', ylabel='label')
    figure.colorbar(picture, ax=axes, label="percent of the label's images", shrink=0.7, ticks=(0, 1, 5, 20, 50, 100))


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
