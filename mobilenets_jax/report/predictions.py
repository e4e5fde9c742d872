"""The results of a classifier on an evaluation set: every prediction, the classes, and their confusions.

predictions.csv has a row for each image, per_class.csv one for each class. confusion.csv says how many images of each
class (row) were taken for each class (column), and confusion.png is the same as a picture.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mobilenets_jax.errors import UserError
from mobilenets_jax.report.confusion import write_confusion, write_csv
from mobilenets_jax.tables import output_names

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
        images: the names of the examples, such as their files; None: their index.

    Raises:
        UserError: a file cannot be written.
    """
    names = output_names(class_names, num_outputs)
    matrix = confusion_matrix(rows, len(class_names), num_outputs)
    try:
        write_csv(folder, 'predictions.csv', _prediction_lines(rows, names, images))
        write_csv(folder, 'per_class.csv', _class_lines(matrix, names))
        write_confusion(folder, matrix, names, of='images')
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
