"""The results of a segmentation network on an evaluation set: the metrics of each image and each class.

images.csv has a row for each image, per_class.csv one for each class. confusion.csv says how many pixels of each class
(row) were taken for each class (column), and confusion.png is the same as a picture.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from mobilenets_jax.errors import UserError
from mobilenets_jax.evaluation.segmentation import class_iou, total_confusion
from mobilenets_jax.report.confusion import write_confusion, write_csv
from mobilenets_jax.report.predictions import Rows
from mobilenets_jax.tables import output_names

OPACITY = 0.6  # of a class's colour upon an image


def write_report(folder: str, rows: Rows, class_names: Sequence[str], images: Sequence[str] | None) -> None:
    """Writes the four files.

    Args:
        folder: local or gs://.
        rows: 'confusion' of each image, in the order of the set.
        class_names: label to name; a network with more outputs has numbers for the others.
        images: the names of the images; None: their index.

    Raises:
        UserError: a file cannot be written.
    """
    confusion = total_confusion(rows)
    names = output_names(class_names, len(confusion))
    try:
        write_csv(folder, 'images.csv', _image_lines(rows['confusion'], images))
        write_csv(folder, 'per_class.csv', class_lines(confusion, names))
        write_confusion(folder, confusion, names, of='pixels')
    except OSError as error:
        raise UserError(f'--report={folder!r} cannot be written: {error.strerror or error}.') from error


def class_lines(confusion: np.ndarray, names: Sequence[str]) -> Iterable[Sequence[object]]:
    """For each class: its number of pixels, and in percent its IoU, recall and precision."""
    yield 'class', 'pixels', 'iou', 'recall', 'precision'
    hits = np.diag(confusion)
    columns = zip(names, confusion.sum(axis=1), class_iou(confusion), hits, confusion.sum(axis=0), strict=True)
    for name, pixels, iou, hit, found in columns:
        recall, precision = (hit / count if count else np.nan for count in (pixels, found))
        yield name, int(pixels), _percent(iou), _percent(recall), _percent(precision)


def paint(images: np.ndarray, labels: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Images with the colours of their classes upon them, float32 [n, H, W, 3] in [0, 1].

    Args:
        images: uint8 [n, H, W, 3].
        labels: int [n, H, W]; a pixel of no class keeps its own colour.
        palette: RGB in 0 .. 255 of each class.
    """
    colours = np.asarray(palette, np.float32)
    known = labels < len(colours)
    painted = colours[np.where(known, labels, 0)]
    opacity = np.where(known, OPACITY, 0.0)[..., None]
    return ((1 - opacity) * images + opacity * painted).astype(np.float32) / 255


def _image_lines(confusions: np.ndarray, images: Sequence[str] | None) -> Iterable[Sequence[object]]:
    yield 'image', 'labelled_pixels', 'pixel_accuracy', 'miou'
    for index, confusion in enumerate(confusions):
        pixels, ious = confusion.sum(), class_iou(confusion)
        accuracy = np.trace(confusion) / pixels if pixels else np.nan
        miou = ious[confusion.sum(axis=1) > 0].mean() if pixels else np.nan
        yield index if images is None else images[index], int(pixels), _percent(accuracy), _percent(miou)


def _percent(share: float) -> str:
    """'' where there is nothing to be counted."""
    return '' if np.isnan(share) else f'{100 * share:.2f}'
