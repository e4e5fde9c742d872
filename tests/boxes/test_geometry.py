"""Areas and overlaps of boxes, by hand and against plain loops."""

import jax
import numpy as np
import pytest

from mobilenets_jax.boxes.geometry import area, clip, intersection, iou, to_centred, to_corners


def random_boxes(generator, *shape):
    low = generator.uniform(-0.2, 0.8, (*shape, 2))
    return np.concatenate([low, low + generator.uniform(0, 0.6, (*shape, 2))], axis=-1).astype(np.float32)


def test_iou_by_hand():
    whole, half, quarter, apart = [0, 0, 1, 1], [0, 0, 0.5, 1], [0.25, 0.5, 0.75, 1], [2, 2, 3, 3]
    a, b = np.array([whole, half], np.float32), np.array([half, quarter, apart], np.float32)
    np.testing.assert_allclose(intersection(a, b), [[0.5, 0.25, 0], [0.5, 0.125, 0]])
    np.testing.assert_allclose(iou(a, b), [[0.5, 0.25, 0], [1, 0.125 / 0.625, 0]])


def test_boxes_that_touch_or_have_no_area_share_none():
    boxes = np.array([[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0.2, 0.2, 0.2, 0.2], [0.4, 0.4, 0.1, 0.1]], np.float32)
    np.testing.assert_allclose(area(boxes), [0.25, 0.25, 0, 0])
    np.testing.assert_array_equal(iou(boxes, boxes), np.diag([1, 1, 0, 0]))


@pytest.mark.parametrize('leading', [(), (2, 3)])
def test_iou_equals_plain_loops(leading):
    generator = np.random.default_rng(0)
    a, b = random_boxes(generator, *leading, 20), random_boxes(generator, *leading, 30)
    found = np.asarray(jax.jit(iou)(a, b))
    assert found.shape == (*leading, 20, 30)
    for index in np.ndindex(*leading):
        for row, (top, left, bottom, right) in enumerate(a[index].astype(np.float64)):
            for column, (y1, x1, y2, x2) in enumerate(b[index].astype(np.float64)):
                shared = max(0, min(bottom, y2) - max(top, y1)) * max(0, min(right, x2) - max(left, x1))
                union = (bottom - top) * (right - left) + (y2 - y1) * (x2 - x1) - shared
                assert found[index][row, column] == pytest.approx(shared / union, abs=1e-6)


def test_the_two_forms():
    np.testing.assert_allclose(to_corners(np.float32([0.5, 0.4, 0.2, 0.6])), [0.4, 0.1, 0.6, 0.7], rtol=1e-6)
    boxes = random_boxes(np.random.default_rng(1), 4, 50)
    np.testing.assert_allclose(to_corners(to_centred(boxes)), boxes, atol=1e-6)


def test_clip_cuts_at_the_border():
    np.testing.assert_allclose(clip(np.float32([[-0.5, 0.2, 0.3, 1.5], [2, 2, 3, 3]])), [[0, 0.2, 0.3, 1], [1] * 4])
