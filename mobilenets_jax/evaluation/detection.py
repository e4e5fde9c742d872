"""Average precision of the boxes found in an evaluation set, by COCO's protocol and by Pascal VOC's.

Paper: Lin et al., 1405.0312, and cocodataset.org/#detection-eval (COCO); Everingham et al., "The PASCAL Visual Object
    Classes Challenge: A Retrospective", section 4.2 (VOC).
Reference: cocodataset/cocoapi PythonAPI/pycocotools/cocoeval.py, which faster-coco-eval computes the same as; VOCdevkit
    VOCcode/VOCevaldet.m.
Differs: COCO has no difficult objects. Here they are ignored in its protocol, too: a box that fits one is neither right
    nor wrong. Regions of many objects, which VOC does not have, are taken for difficult objects in VOC's protocol.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mobilenets_jax.data.annotations import Annotations
from mobilenets_jax.errors import RunError, needed

Rows = Mapping[str, np.ndarray]

# In the order in which COCO's evaluation has them.
COCO_METRICS = (
    *('ap', 'ap50', 'ap75', 'ap_small', 'ap_medium', 'ap_large'),
    *('ar1', 'ar10', 'ar100', 'ar_small', 'ar_medium', 'ar_large'),
)
IGNORED_AREA = 1e11  # square pixels: beyond every range of COCO's, whose objects are ignored as these are
VOC_OVERLAP = 0.5  # intersection over union from which a box fits an object


class CocoResult(NamedTuple):
    """COCO's metrics of a set; all are in percent, NaN if there is no object for them.

    Attributes:
        metrics: those of `COCO_METRICS`.
        class_ap: of each class, [classes], the mean over intersections over union of 0.5 to 0.95.
        class_ap50: of each class at 0.5, [classes].
        class_ar100: of each class, the recall of 100 boxes of an image, [classes].
    """

    metrics: dict[str, float]
    class_ap: np.ndarray
    class_ap50: np.ndarray
    class_ar100: np.ndarray


class VocResult(NamedTuple):
    """VOC's metrics of a set; all are in percent, NaN if there is no object for them.

    Attributes:
        metrics: 'voc07_ap50', the mean of precisions at eleven recalls (until 2009), and 'voc_ap50', the area below the
            curve (since 2010), both means over the classes that have objects.
        class_ap50: of each class the area below the curve, [classes].
    """

    metrics: dict[str, float]
    class_ap50: np.ndarray


class Found(NamedTuple):
    """All detections of a set, image by image, those of an image with the best score first.

    Attributes:
        images: index of the image of each, int [d].
        boxes: [ymin, xmin, ymax, xmax] in pixels of the image, float64 [d, 4].
        scores: float32 [d].
        labels: int [d].
    """

    images: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def check_installed() -> None:
    """Raises `UserError` where the package that computes COCO's metrics is missing."""
    needed('faster_coco_eval')


def detection_metrics(annotations: Sequence[Annotations], rows: Rows, num_classes: int) -> dict[str, float]:
    """The metrics of `training.detection.DetectionTask`: `COCO_METRICS` and those of `VocResult`; see `coco_result`."""
    found = found_boxes(annotations, rows)
    return coco_result(annotations, found, num_classes).metrics | voc_result(annotations, found, num_classes).metrics


def found_boxes(annotations: Sequence[Annotations], rows: Rows) -> Found:
    """The detections in pixels.

    Args:
        annotations: of each image.
        rows: of each image, in the same order: 'boxes' float [n, K, 4] as fractions of the image, 'scores' [n, K], and
            'labels' int [n, K], -1 where there is no detection.
    """
    sizes = np.array([(image.height, image.width) for image in annotations], np.float64)
    images, places = np.nonzero(rows['labels'] >= 0)
    boxes = rows['boxes'][images, places].astype(np.float64) * np.tile(sizes[images], 2)
    return Found(images, boxes, rows['scores'][images, places], rows['labels'][images, places])


def coco_result(annotations: Sequence[Annotations], found: Found, num_classes: int) -> CocoResult:
    """COCO's twelve numbers.

    Detections of equal score count in the order of the images' ids and of their rows, so that the result does not
    depend on how the set was spread over devices. Classes without an object are left out of the means.

    Args:
        annotations: of each image.
        found: of the same images.
        num_classes: those of the data; detections of others have no effect.

    Raises:
        RunError: no image has an object that counts.
        UserError: faster-coco-eval is not installed.
    """
    check_installed()
    from faster_coco_eval import COCO, COCOeval_faster

    if not any(_counted(image).any() for image in annotations):
        raise RunError('No image of the evaluation set has an object that counts: nothing can be measured.')
    ids = [image.image_id for image in annotations]
    images = [{'id': image.image_id, 'height': int(image.height), 'width': int(image.width)} for image in annotations]
    categories = [{'id': label, 'name': str(label)} for label in range(1, num_classes + 1)]
    document = {'images': images, 'categories': categories}
    objects = COCO({**document, 'annotations': _objects(annotations)})
    detections = COCO({**document, 'annotations': _detections(ids, found)})
    evaluation = COCOeval_faster(objects, detections, iouType='bbox', print_function=lambda *_: None)
    evaluation.run()
    precision, recall = (_percent(evaluation.eval[name]) for name in ('precision', 'recall'))
    return CocoResult(
        metrics=dict(zip(COCO_METRICS, map(float, _percent(evaluation.stats)), strict=True)),
        class_ap=precision[..., 0, -1].mean(axis=(0, 1)),  # (overlap, recall, class, area, most detections)
        class_ap50=precision[0, ..., 0, -1].mean(axis=0),
        class_ar100=recall[..., 0, -1].mean(axis=0),
    )


def _counted(image: Annotations) -> np.ndarray:
    """Which objects are to be found, bool [n]."""
    return ~(image.crowd | image.difficult)


def _objects(annotations: Sequence[Annotations]) -> list[dict]:
    """All objects in COCO's format. Ids begin at 1, since 0 means in COCO's evaluation that nothing matches."""
    rows: list[dict] = []
    for image in annotations:
        columns = image.labels, image.boxes, image.area, image.crowd, image.difficult
        for label, box, area, crowd, difficult in zip(*columns, strict=True):
            rows.append(
                {
                    'image_id': image.image_id,
                    'category_id': int(label) + 1,
                    'bbox': _corner_and_size(box),
                    'area': IGNORED_AREA if difficult else float(area),
                    'iscrowd': int(crowd),
                    'id': len(rows) + 1,
                }
            )
    return rows


def _detections(ids: Sequence[int], found: Found) -> list[dict]:
    """All detections as COCO's files have them, with the areas of their boxes."""
    rows: list[dict] = []
    for image, box, score, label in zip(*found, strict=True):
        x, y, width, height = _corner_and_size(box)
        rows.append(
            {
                'image_id': ids[image],
                'category_id': int(label) + 1,
                'bbox': [x, y, width, height],
                'area': width * height,
                'score': float(score),
                'iscrowd': 0,
                'id': len(rows) + 1,
            }
        )
    return rows


def _corner_and_size(box: np.ndarray) -> list[float]:
    """COCO's [x, y, width, height]."""
    top, left, bottom, right = map(float, box)
    return [left, top, right - left, bottom - top]


def _percent(values: np.ndarray) -> np.ndarray:
    """COCO's numbers in percent; where it has -1, since there is no object, NaN."""
    values = np.asarray(values, np.float64)
    return np.where(values < 0, np.nan, 100 * values)


def voc_result(annotations: Sequence[Annotations], found: Found, num_classes: int) -> VocResult:
    """Average precision at an intersection over union of 0.5, of detections of all scores.

    Args:
        annotations: of each image.
        found: of the same images.
        num_classes: those of the data; detections of others have no effect.
    """
    numbers, counted = _fitting_objects(annotations, found)
    order = np.argsort(-found.scores, kind='stable')
    numbers, labels = numbers[order], found.labels[order]
    # Of the detections that fit the same object the best one is right, and the others are wrong.
    best = np.zeros(len(numbers), bool)
    best[np.unique(numbers, return_index=True)[1]] = True
    counts = np.append(counted, True)[numbers]  # what fits nothing, -1, counts as wrong
    right = best & (numbers >= 0)
    objects = np.concatenate([image.labels[_counted(image)] for image in annotations])
    precisions = np.array(
        [_precisions(right[(labels == label) & counts], (objects == label).sum()) for label in range(num_classes)]
    )
    there = ~np.isnan(precisions[:, 1])
    means = precisions[there].mean(axis=0) if there.any() else (np.nan, np.nan)
    metrics = dict(zip(('voc07_ap50', 'voc_ap50'), map(float, means), strict=True))
    return VocResult(metrics, precisions[:, 1])


def _fitting_objects(annotations: Sequence[Annotations], found: Found) -> tuple[np.ndarray, np.ndarray]:
    """For each detection the number of the object that it fits, int [d], -1 for none; and which objects count, bool.

    That is the object of the same image and class which it overlaps most, if it does so enough.
    """
    numbers = np.full(len(found.images), -1)
    ends = np.searchsorted(found.images, np.arange(len(annotations) + 1))
    first = 0
    for image, start, end in zip(annotations, ends, ends[1:], strict=False):
        if len(image.labels) and end > start:
            overlaps = _iou(found.boxes[start:end], image.boxes.astype(np.float64))
            overlaps[found.labels[start:end, None] != image.labels] = 0
            best = overlaps.argmax(axis=1)
            fits = overlaps[np.arange(len(best)), best] >= VOC_OVERLAP
            numbers[start:end] = np.where(fits, first + best, -1)
        first += len(image.labels)
    return numbers, np.concatenate([_counted(image) for image in annotations])


def _iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes [d, 4] and others [n, 4], in corners: [d, n]."""
    least = np.maximum(boxes[:, None, :2], others[None, :, :2])
    most = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = np.prod(np.maximum(most - least, 0), axis=-1)
    areas = [np.prod(corners[:, 2:] - corners[:, :2], axis=-1) for corners in (boxes, others)]
    union = areas[0][:, None] + areas[1] - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def _precisions(right: np.ndarray, objects: int) -> tuple[float, float]:
    """The average precision of a class in percent: at eleven recalls, and as an area; NaN where it has no object.

    Args:
        right: whether each detection is, bool [d], the best score first.
        objects: how many there are to be found.
    """
    if not objects:
        return np.nan, np.nan
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a higher one
    # Recalls of 0, 0.1, ..., 1 as whole numbers: three of ten objects are no less than 0.3.
    eleven = [best[10 * hits >= tenths * objects].max(initial=0.0) for tenths in range(11)]
    return 100 * np.mean(eleven), 100 * (np.diff(hits, prepend=0) * best).sum() / objects
