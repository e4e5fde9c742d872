"""Average precision against pycocotools, against a plain loop of VOC's rules, and in cases worked out by hand."""

import sys

import numpy as np
import pytest
from random_boxes import CLASSES, random_set

from mobilenets_jax.data.annotations import Annotations
from mobilenets_jax.errors import RunError, UserError
from mobilenets_jax.evaluation.detection import (
    COCO_METRICS,
    coco_result,
    detection_metrics,
    found_boxes,
    voc_result,
)

NONE = np.nan
# Of `random_set` by pycocotools 2.0.11: the twelve numbers, and the AP of each class.
PYCOCOTOOLS = {
    0: (
        [34.77409051, 59.60610371, 35.95112137, 19.38472419, 37.24724342, 67.20792079]
        + [28.67973856, 51.45098039, 51.45098039, 30.83333333, 55.02849003, 76.66666667],
        [34.72190084, 37.44265084, 32.15771983, NONE],
    ),
    1: (
        [20.2028728, 44.6407447, 18.67864564, 15.95371076, 24.86988153, 40.3960396]
        + [23.05876068, 34.66239316, 34.66239316, 26.22222222, 40.0, 40.0],
        [24.22526858, 20.31472391, 16.06862591, NONE],
    ),
}


def image(boxes, labels=None, image_id=1, area=None, crowd=None, difficult=None, size=(100, 100)):
    """An image of 100 x 100 pixels with objects of class 0, unless said otherwise."""
    boxes, count = np.array(boxes, np.float32).reshape(-1, 4), len(boxes)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) if area is None else np.array(area, np.float32)
    flags = (np.zeros(count, bool) if flag is None else np.array(flag, bool) for flag in (crowd, difficult))
    labels = np.zeros(count, np.int32) if labels is None else np.array(labels, np.int32)
    return Annotations('image.jpg', image_id, *size, boxes, labels, areas, *flags)


def detections(*images, rows=8):
    """The rows of images whose detections are (box in hundredths, score) or (box, score, label)."""
    found = {
        'boxes': np.zeros((len(images), rows, 4), np.float32),
        'scores': np.zeros((len(images), rows), np.float32),
        'labels': np.full((len(images), rows), -1, np.int32),
    }
    for index, of_image in enumerate(images):
        for place, (box, score, *label) in enumerate(of_image):
            found['boxes'][index, place] = np.array(box) / 100
            found['scores'][index, place] = score
            found['labels'][index, place] = label[0] if label else 0
    return found


def coco(annotations, rows, num_classes=1):
    return coco_result(annotations, found_boxes(annotations, rows), num_classes)


def voc(annotations, rows, num_classes=1):
    return voc_result(annotations, found_boxes(annotations, rows), num_classes)


@pytest.mark.parametrize('seed', PYCOCOTOOLS)
def test_coco_numbers_are_those_of_pycocotools(seed):
    """The second set has crowds; in both many scores are equal, and one class has no object."""
    found = coco(*random_set(seed, crowds=seed == 1), CLASSES)
    metrics, class_ap = PYCOCOTOOLS[seed]
    assert list(found.metrics) == list(COCO_METRICS)
    np.testing.assert_allclose(list(found.metrics.values()), metrics, atol=1e-7)
    np.testing.assert_allclose(found.class_ap, class_ap, atol=1e-7)
    assert found.metrics['ap'] == pytest.approx(np.nanmean(found.class_ap), rel=1e-12)
    assert found.metrics['ap50'] == pytest.approx(np.nanmean(found.class_ap50), rel=1e-12)
    assert found.metrics['ar100'] == pytest.approx(np.nanmean(found.class_ar100), rel=1e-12)


def test_equal_scores_give_the_same_in_any_order_of_the_images():
    annotations, rows = random_set(2, crowds=True)
    rows['scores'] = np.where(rows['labels'] >= 0, np.float32(0.5), 0)
    order = np.random.default_rng(0).permutation(len(annotations))
    shuffled = [annotations[index] for index in order]
    np.testing.assert_array_equal(
        list(coco(shuffled, {name: leaf[order] for name, leaf in rows.items()}, CLASSES).metrics.values()),
        list(coco(annotations, rows, CLASSES).metrics.values()),
    )


def test_the_first_object_of_a_set_can_be_found():
    """An object with the id 0 would count as not found in COCO's evaluation, and a detection too."""
    box = (10, 10, 50, 50)
    found = coco([image([box])], detections([(box, 0.9)]))
    assert found.metrics['ap'] == pytest.approx(100) and found.metrics['ar1'] == pytest.approx(100)
    assert np.isnan(found.metrics['ap_large']) and found.metrics['ap_medium'] == pytest.approx(100)


def test_detections_of_a_class_without_objects_leave_the_mean_alone():
    box = (10, 10, 50, 50)
    rows = detections([(box, 0.9, 0), (box, 0.8, 1), (box, 0.7, 5)])
    annotations = [image([box])]
    found = coco(annotations, rows, num_classes=2)
    assert found.metrics['ap'] == pytest.approx(100)
    np.testing.assert_array_equal(np.isnan(found.class_ap), [False, True])
    assert voc(annotations, rows, num_classes=2).metrics == {'voc07_ap50': 100.0, 'voc_ap50': 100.0}


def test_a_crowd_takes_any_number_of_detections_that_lie_in_it():
    """Each is a tenth of the crowd: with the usual overlap they would be wrong, and precede the one that is right."""
    crowd, alone = (0, 0, 50, 100), (60, 60, 90, 90)
    inside = [((0, 10 * step, 50, 10 * step + 10), 0.9) for step in range(5)]
    rows = detections([*inside, (alone, 0.5)])
    assert coco([image([crowd, alone], crowd=[True, False])], rows).metrics['ap'] == pytest.approx(100)
    assert coco([image([crowd, alone])], rows).metrics['ap'] < 10


@pytest.mark.parametrize('measure', [coco, voc])
def test_a_difficult_object_need_not_be_found_and_finding_it_is_not_wrong(measure):
    easy, hard = (10, 10, 40, 40), (50, 50, 90, 90)
    name = {coco: 'ap50', voc: 'voc_ap50'}[measure]
    annotations = [image([easy, hard], difficult=[False, True])]
    assert measure(annotations, detections([(hard, 0.9), (easy, 0.5)])).metrics[name] == pytest.approx(100)
    assert measure(annotations, detections([(easy, 0.5)])).metrics[name] == pytest.approx(100)
    wrong = ((0, 60, 10, 70), 0.9)  # for comparison, what finds nothing
    assert measure(annotations, detections([wrong, (easy, 0.5)])).metrics[name] == pytest.approx(50)


def test_sizes_are_those_of_the_annotations_area():
    """A box of 50 x 50 pixels whose object has 900 is small."""
    box = (10, 10, 60, 60)
    found = coco([image([box], area=[900])], detections([(box, 0.9)]))
    assert found.metrics['ap_small'] == pytest.approx(100) and np.isnan(found.metrics['ap_medium'])


def test_voc_curve_by_hand():
    """Three objects; found, missed, found, and found again: recalls 1/3, 1/3, 2/3, 2/3, precisions 1, 1/2, 2/3, 1/2."""
    boxes = [(0, 0, 20, 20), (0, 30, 20, 50), (0, 60, 20, 80)]
    rows = detections([(boxes[0], 0.9), ((70, 70, 90, 90), 0.8), (boxes[1], 0.7), (boxes[1], 0.6)])
    metrics = voc([image(boxes)], rows).metrics
    assert metrics['voc_ap50'] == pytest.approx(100 * (1 / 3 + 2 / 9))
    assert metrics['voc07_ap50'] == pytest.approx(100 * (4 * 1 + 3 * 2 / 3) / 11)


def test_voc_takes_an_overlap_of_exactly_one_half():
    rows = detections([((0, 0, 10, 20), 0.9)])
    assert voc([image([(0, 0, 20, 20)])], rows).metrics['voc_ap50'] == 100


@pytest.mark.parametrize('seed', range(5))
def test_voc_numbers_are_those_of_a_plain_loop(seed):
    annotations, rows = random_set(seed, difficult=True)
    found = found_boxes(annotations, rows)
    areas, elevens = [], []
    for label in range(CLASSES - 1):
        right, objects = plain_voc(annotations, found, label)
        areas.append(plain_area(right, objects))
        recall, precision = np.cumsum(right) / objects, np.cumsum(right) / np.arange(1, len(right) + 1)
        elevens.append(np.mean([max([0, *precision[recall >= t / 10 - 1e-12]]) for t in range(11)]))
    result = voc_result(annotations, found, CLASSES)
    np.testing.assert_allclose(result.class_ap50, [*(100 * np.array(areas)), np.nan], rtol=1e-12)
    assert result.metrics['voc07_ap50'] == pytest.approx(100 * np.mean(elevens), rel=1e-12)


def plain_voc(annotations, found, label):
    """VOCevaldet.m for a class: whether each detection that counts is right; and how many objects count."""
    taken, right = set(), []
    mine = np.flatnonzero(found.labels == label)
    for detection in mine[np.argsort(-found.scores[mine], kind='stable')]:
        of_image = annotations[found.images[detection]]
        best, overlap = None, -1.0
        for number, box in enumerate(of_image.boxes.astype(np.float64)):
            if of_image.labels[number] == label and plain_iou(found.boxes[detection], box) > overlap:
                best, overlap = number, plain_iou(found.boxes[detection], box)
        if best is None or overlap < 0.5:
            right.append(False)
        elif not of_image.difficult[best]:
            right.append((found.images[detection], best) not in taken)
            taken.add((found.images[detection], best))
    counted = sum(int(((image.labels == label) & ~image.difficult).sum()) for image in annotations)
    return np.array(right, bool), counted


def plain_iou(one, other):
    height = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    width = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return height * width / (sum(areas) - height * width)


def plain_area(right, objects):
    recall = [0, *np.cumsum(right) / objects, 1]
    precision = [0, *np.cumsum(right) / np.arange(1, len(right) + 1), 0]
    for place in range(len(precision) - 2, -1, -1):
        precision[place] = max(precision[place], precision[place + 1])
    return sum((recall[place] - recall[place - 1]) * precision[place] for place in range(1, len(recall)))


def test_no_detection_at_all_is_nothing_found():
    metrics = detection_metrics([image([(0, 0, 50, 50)])], detections([]), 1)
    assert metrics['ap'] == metrics['ar100'] == metrics['voc_ap50'] == metrics['voc07_ap50'] == 0


def test_a_set_without_objects_that_count_cannot_be_measured():
    annotations = [image([(0, 0, 50, 50), (0, 0, 9, 9)], crowd=[True, False], difficult=[False, True]), image([])]
    with pytest.raises(RunError, match='No image of the evaluation set has an object that counts'):
        detection_metrics(annotations, detections([], []), 1)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'faster_coco_eval', None)
    with pytest.raises(UserError, match='package faster_coco_eval is needed and not installed'):
        detection_metrics([image([(0, 0, 50, 50)])], detections([]), 1)
