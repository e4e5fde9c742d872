"""From the boxes that the files of a data set have to those that are measured and learnt, checked and counted.

What is measured is as in the files, as pycocotools takes it, also where a box reaches beyond its image. What is learnt
is the part inside the image. Boxes without area, outside of their image or of classes that are not asked for are
neither; a line on standard error says how many, and where the first one is.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mobilenets_jax.data import fingerprint
from mobilenets_jax.data.annotations import Annotations
from mobilenets_jax.data.box_classes import label_of
from mobilenets_jax.errors import UserError

LEAST_PIXELS = 1  # height and width of a box that is learnt
SHOWN_CLASSES = 5


class RawImage(NamedTuple):
    """An image and its boxes as a file has them.

    Attributes:
        path: of the image.
        image_id: see `Annotations`.
        size: height and width, in pixels.
        boxes: rows [ymin, xmin, ymax, xmax], in pixels.
        classes: the name of the class of each.
        areas: of each object, in square pixels; None: those of the boxes.
        crowd: whether each is a crowd; (): none is.
        difficult: whether each is difficult; (): none is.
    """

    path: str
    image_id: int
    size: tuple[int, int]
    boxes: Sequence[Sequence[float]]
    classes: Sequence[str]
    areas: Sequence[float] | None = None
    crowd: Sequence[bool] = ()
    difficult: Sequence[bool] = ()


class BoxTable(NamedTuple):
    """The boxes of a training set, image after image.

    Attributes:
        paths: of the images.
        sizes: int32 [images, 2], height and width in pixels.
        starts: int64 [images + 1], the first box of each image, and the end of the last one.
        boxes: float32 [boxes, 4], [ymin, xmin, ymax, xmax] in parts of the image.
        labels: int32 [boxes].
    """

    paths: list[str]
    sizes: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


def check_images(images: Sequence[RawImage], class_names: Sequence[str], where: str) -> list[Annotations]:
    """The annotations of all images, without boxes that cannot be used.

    Args:
        images: of a split.
        class_names: those that are asked for, by label.
        where: what messages call the split.

    Raises:
        UserError: no box can be used.
    """
    labels = {name: label_of(name, class_names) for image in images for name in image.classes}
    found = [_annotations(image, labels) for image in images]
    faults = [_faults(one) for one in found]
    _report_left_out(images, faults, class_names, where)
    kept = [one.select(fault == '') if fault.any() else one for one, fault in zip(found, faults, strict=True)]
    _report_cut_off(kept, where)
    return kept


def _annotations(image: RawImage, labels: Mapping[str, int]) -> Annotations:
    boxes = np.array(image.boxes, np.float64).reshape(-1, 4)
    with np.errstate(invalid='ignore'):  # of boxes that are left out
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) if image.areas is None else np.array(image.areas)
    none = np.zeros(len(boxes))
    flags = (np.array(given if len(given) else none, bool) for given in (image.crowd, image.difficult))
    height, width = image.size
    return Annotations(
        image.path,
        image.image_id,
        height,
        width,
        boxes.astype(np.float32),
        np.array([labels[name] for name in image.classes], np.int32),
        areas.astype(np.float32),
        *flags,
    )


def _faults(found: Annotations) -> np.ndarray:
    """Why each box cannot be used, str [n]; '' for those that can be."""
    boxes, size = found.boxes, (found.height, found.width)
    has_area = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    outside = ((boxes[:, 2:] <= 0) | (boxes[:, :2] >= size)).any(axis=1)
    faults = np.where(outside, 'outside of the image', np.full(len(boxes), '', object))
    faults = np.where(has_area, faults, 'without area')
    return np.where(found.labels >= 0, faults, 'of other classes')


def _report_left_out(
    images: Sequence[RawImage], faults: Sequence[np.ndarray], class_names: Sequence[str], where: str
) -> None:
    counts, first, others = Counter(), {}, Counter()
    for image, fault in zip(images, faults, strict=True):
        for number in np.flatnonzero(fault):
            counts[fault[number]] += 1
            first.setdefault(fault[number], f'box {number + 1} of {image.path}')
            if fault[number] == 'of other classes':
                others[image.classes[number]] += 1
    total = sum(map(len, faults))
    if not total:
        raise UserError(f'{where} has no box.')
    shown = ', '.join(f'{name!r} ({count})' for name, count in others.most_common(SHOWN_CLASSES))
    shown += ', ...' if len(others) > SHOWN_CLASSES else ''
    if counts['of other classes'] == total:
        raise UserError(f'{where} has no box of the {len(class_names)} classes, but {shown}: see data.class_names.')
    reasons = ', '.join(f'{count} {fault} (first: {first[fault]})' for fault, count in sorted(counts.items()))
    if counts.total() == total:
        raise UserError(f'{where} has no box that can be used: {reasons}.')
    if counts:
        names = f'; their classes: {shown}' if others else ''
        print(f'{where}: {counts.total()} of {total} boxes are left out: {reasons}{names}', file=sys.stderr)


def _report_cut_off(images: Sequence[Annotations], where: str) -> None:
    """Boxes that reach further than rounding explains beyond their images."""
    beyond = [
        (one.name, number)
        for one in images
        for number in np.flatnonzero(
            ((one.boxes[:, :2] < -1) | (one.boxes[:, 2:] > np.array([one.height, one.width]) + 1)).any(axis=1)
        )
    ]
    if beyond:
        print(
            f'{where}: {len(beyond)} boxes reach more than a pixel beyond their images (first: box {beyond[0][1] + 1} '
            f'of {beyond[0][0]}): what is outside is measured, but not learnt',
            file=sys.stderr,
        )


def trainable_boxes(
    images: Sequence[Annotations], where: str, *, keep_empty: bool = True, difficult: bool = False
) -> BoxTable:
    """The part of each box inside its image, without crowds and without parts thinner than `LEAST_PIXELS`.

    Args:
        images: of the training split.
        where: what messages call it.
        keep_empty: whether images without a box are kept.
        difficult: whether boxes that VOC calls difficult are kept.

    Raises:
        UserError: no box is left.
    """
    rows, thin, empty = [], 0, 0
    for image in images:
        size = np.tile(np.array([image.height, image.width], np.float32), 2)
        boxes = np.clip(image.boxes, 0, size)
        wide = (boxes[:, 2:] - boxes[:, :2] >= LEAST_PIXELS).all(axis=1)
        wanted = ~image.crowd & (difficult | ~image.difficult)
        thin += np.count_nonzero(wanted & ~wide)
        kept = wanted & wide
        empty += not kept.any()
        if kept.any() or keep_empty:
            rows.append((image, boxes[kept] / size, image.labels[kept]))
    if thin:
        print(f'{where}: {thin} boxes thinner than {LEAST_PIXELS} pixel are not learnt', file=sys.stderr)
    if empty and not keep_empty:
        print(f'{where}: {empty} images are left out, since they have no box to learn', file=sys.stderr)
    if empty == len(images):
        raise UserError(f'{where} has no box to learn: all are crowds, difficult or too thin.')
    found, boxes, labels = zip(*rows, strict=True)
    return BoxTable(
        paths=[image.name for image in found],
        sizes=np.array([(image.height, image.width) for image in found], np.int32),
        starts=np.cumsum([0, *map(len, labels)]),
        boxes=np.concatenate(boxes).astype(np.float32),
        labels=np.concatenate(labels).astype(np.int32),
    )


def most_boxes(table: BoxTable, max_boxes: int | None) -> int:
    """How many boxes an example has with padding; `UserError` that names an image with more than `max_boxes`."""
    counts = np.diff(table.starts)
    most = int(counts.max())
    if max_boxes is not None and most > max_boxes:
        more = np.count_nonzero(counts > max_boxes)
        raise UserError(
            f'{table.paths[int(counts.argmax())]} has {most} boxes: the most of {more} images with more than '
            f'data.max_boxes={max_boxes}.'
        )
    return max_boxes or most


def fingerprint_of(directory: str, paths: Sequence[str], *arrays: np.ndarray) -> fingerprint.Fingerprint:
    """The fingerprint from the names of images under `directory`, and from facts about them."""
    part = 'images and boxes'
    names = [path.removeprefix(directory.rstrip('/')) for path in paths]
    hashes = [fingerprint.of_names(part, names)[-1], fingerprint.of_arrays(part, *arrays)[-1]]
    return [fingerprint.of_facts(part, len(paths), *hashes)]
