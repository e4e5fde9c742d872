"""The results of a detector on an evaluation set: its detections in each image, and the metrics of each class.

images.csv has a row for each image, per_class.csv one for each class. detections.json has every box that was found, and
pictures.png shows the first images with their objects (left) and with what was found in them (right).
"""

import json
from collections.abc import Iterable, Sequence

import numpy as np
from etils import epath

from mobilenets_jax.data.annotations import Annotations
from mobilenets_jax.errors import UserError
from mobilenets_jax.evaluation.detection import Found, Rows, coco_result, found_boxes, voc_result
from mobilenets_jax.report.boxes import paint_boxes
from mobilenets_jax.report.confusion import write_csv
from mobilenets_jax.report.pictures import png
from mobilenets_jax.tables import output_names

PICTURED_IMAGES = 6
LEAST_SCORE = 0.5  # of the boxes that are drawn, and that `predict` names
PANEL_INCHES = 5
TITLE_INCHES = 0.3


def write_report(
    folder: str, rows: Rows, annotations: Sequence[Annotations], class_names: Sequence[str], images: np.ndarray
) -> None:
    """Writes the four files.

    Args:
        folder: local or gs://.
        rows: 'boxes', 'scores' and 'labels' of each image, see `evaluation.detection.found_boxes`.
        annotations: of each image.
        class_names: label to name.
        images: the first images of the set, uint8 [n, H, W, 3].

    Raises:
        UserError: a file cannot be written.
    """
    found = found_boxes(annotations, rows)
    names = output_names(class_names, int(found.labels.max(initial=-1)) + 1)  # a network may have more
    try:
        write_csv(folder, 'images.csv', _image_lines(annotations, found))
        write_csv(folder, 'per_class.csv', class_lines(annotations, found, class_names))
        text = json.dumps(_detections(annotations, found, names), separators=(',', ':'))
        (epath.Path(folder) / 'detections.json').write_text(text)
        png = _draw(images[:PICTURED_IMAGES], rows, annotations, names)
        (epath.Path(folder) / 'pictures.png').write_bytes(png)
    except OSError as error:
        raise UserError(f'--report={folder!r} cannot be written: {error.strerror or error}.') from error


def class_lines(
    annotations: Sequence[Annotations], found: Found, class_names: Sequence[str]
) -> Iterable[Sequence[object]]:
    """Of each class: its images and objects that count; and in percent COCO's AP, AP50 and AR100, and VOC's AP50."""
    coco, voc = coco_result(annotations, found, len(class_names)), voc_result(annotations, found, len(class_names))
    counts = np.zeros((2, len(class_names)), int)
    for image in annotations:
        labels = image.labels[~(image.crowd | image.difficult)]
        counts[0, np.unique(labels)] += 1
        counts[1] += np.bincount(labels, minlength=len(class_names))
    yield 'class', 'images', 'objects', 'ap', 'ap50', 'ar100', 'voc_ap50'
    columns = coco.class_ap, coco.class_ap50, coco.class_ar100, voc.class_ap50
    for name, images, objects, *values in zip(class_names, *counts, *columns, strict=True):
        yield name, images, objects, *('' if np.isnan(value) else f'{value:.2f}' for value in values)


def _image_lines(annotations: Sequence[Annotations], found: Found) -> Iterable[Sequence[object]]:
    yield 'image', 'height', 'width', 'objects', 'crowds', 'difficult', 'detections', 'best_score'
    starts = np.searchsorted(found.images, np.arange(len(annotations) + 1))
    for image, start, end in zip(annotations, starts, starts[1:], strict=False):
        best = f'{found.scores[start]:.4f}' if end > start else ''
        objects = len(image.labels), int(image.crowd.sum()), int(image.difficult.sum())
        yield image.name, image.height, image.width, *objects, end - start, best


def _detections(annotations: Sequence[Annotations], found: Found, names: Sequence[str]) -> list[dict]:
    """COCO's format of results, except that the class is a name."""
    return [
        {
            'image': annotations[image].name,
            'image_id': annotations[image].image_id,
            'class': names[label],
            'bbox': [round(float(value), 2) for value in (left, top, right - left, bottom - top)],
            'score': round(float(score), 6),
        }
        for image, (top, left, bottom, right), score, label in zip(*found, strict=True)
    ]


def _draw(images: np.ndarray, rows: Rows, annotations: Sequence[Annotations], names: Sequence[str]) -> bytes:
    """The bytes of a PNG."""
    from matplotlib.figure import Figure

    height = PANEL_INCHES * images.shape[1] / images.shape[2] + TITLE_INCHES
    figure = Figure(figsize=(2 * PANEL_INCHES, height * len(images)), layout='constrained')
    panels = figure.subplots(len(images), 2, squeeze=False)
    for index, (image, (objects, detections)) in enumerate(zip(images, panels, strict=True)):
        objects.imshow(paint_objects(image, annotations[index], names))
        objects.set_title(f'{len(annotations[index].labels)} objects', fontsize='small')
        boxes, scores, labels = (rows[name][index] for name in ('boxes', 'scores', 'labels'))
        shown = (labels >= 0) & (scores >= LEAST_SCORE)
        boxes = boxes[shown] * np.tile(image.shape[:2], 2)
        detections.imshow(paint_detections(image, boxes, scores[shown], labels[shown], names))
        detections.set_title(f'{shown.sum()} found, with a score of {LEAST_SCORE} or more', fontsize='small')
        for axes in (objects, detections):
            axes.axis('off')
    return png(figure, dpi=100)


def paint_objects(image: np.ndarray, annotations: Annotations, names: Sequence[str]) -> np.ndarray:
    """An image of any size, uint8 [H, W, 3], with its objects upon it."""
    scale = np.divide(image.shape[:2], (annotations.height, annotations.width))
    marks = [
        ' (crowd)' * crowd + ' (difficult)' * difficult
        for crowd, difficult in zip(annotations.crowd.tolist(), annotations.difficult.tolist(), strict=True)
    ]
    titles = [names[label] + mark for label, mark in zip(annotations.labels, marks, strict=True)]
    return paint_boxes(image, annotations.boxes * np.tile(scale, 2), titles, annotations.labels)


def paint_detections(
    image: np.ndarray, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> np.ndarray:
    """An image, uint8 [H, W, 3], with detections upon it, whose boxes [n, 4] are in pixels, the best one first."""
    titles = [f'{names[label]} {score:.2f}' for label, score in zip(labels, scores, strict=True)]
    return paint_boxes(image, boxes, titles, labels)
