"""Matching equals plain loops on thousands of random cases, and by hand where the order decides."""

import functools

import jax
import numpy as np
import plain
import pytest

from mobilenets_jax.boxes.geometry import to_centred
from mobilenets_jax.boxes.matching import match

CASES, BOXES, ANCHORS = 1000, 7, 24


@pytest.mark.parametrize('last_wins', [False, True])
@pytest.mark.parametrize('threshold', [0.5, 0.3])
def test_equals_plain_loops(threshold, last_wins):
    generator = np.random.default_rng(0)
    boxes = plain.grid_boxes(generator, CASES, BOXES)
    boxes[::3, 1] = boxes[::3, 4]  # the same box twice
    counts = np.arange(CASES) % (BOXES + 1)  # none, one, ...
    valid = generator.permuted(np.arange(BOXES) < counts[:, None], axis=1)
    boxes[~valid] = [0, 0, 1, 1]
    anchors = plain.grid_boxes(generator, ANCHORS)
    anchors[5:8], anchors[-1] = anchors[2], [0, 0, 1, 1]  # equal anchors, and one that padding fits best
    matcher = functools.partial(match, threshold=threshold, last_wins=last_wins)
    found = np.asarray(jax.jit(jax.vmap(matcher, (0, 0, None)))(boxes, valid, to_centred(anchors)))
    assert found.dtype == np.int32
    forced = 0
    for case in range(CASES):
        real = np.flatnonzero(valid[case])
        expected = plain.match(boxes[case][real], anchors, threshold, last_wins)
        np.testing.assert_array_equal(found[case], np.where(expected >= 0, np.append(real, -1)[expected], -1))
        unforced = plain.match(boxes[case][real], anchors, threshold, last_wins, force=False)
        forced += (unforced != expected).any()
    assert forced > CASES / 2  # forced matches decide in most cases


def match_corners(boxes, anchors, valid=None, **options):
    boxes, anchors = np.float32(boxes), np.float32(anchors)
    valid = np.ones(len(boxes), bool) if valid is None else np.array(valid)
    matcher = jax.jit(match, static_argnames=('threshold', 'last_wins'))
    return matcher(boxes, valid, np.asarray(to_centred(anchors)), **options).tolist()


LEFT, RIGHT, WHOLE = [0, 0, 1, 0.5], [0, 0.5, 1, 1], [0, 0, 1, 1]


def test_an_anchor_goes_to_the_box_that_it_overlaps_most_from_the_threshold_on():
    assert match_corners([LEFT], [LEFT, WHOLE, RIGHT]) == [0, 0, -1]  # half of the whole: the threshold itself
    assert match_corners([LEFT], [LEFT, WHOLE, RIGHT], threshold=0.51) == [0, -1, -1]


def test_two_boxes_with_one_best_anchor():
    small, smaller = [0, 0, 0.3, 0.3], [0, 0, 0.2, 0.2]
    assert match_corners([small, smaller], [LEFT, RIGHT]) == [0, -1]
    assert match_corners([small, smaller], [LEFT, RIGHT], last_wins=True) == [1, -1]
    assert match_corners([smaller, LEFT], [LEFT, RIGHT]) == [0, -1]  # forced against a better box, as in both codes


def test_padding_takes_no_anchor():
    boxes = [WHOLE, LEFT, WHOLE]
    for last_wins in (False, True):
        found = match_corners(boxes, [WHOLE, LEFT, RIGHT], [False, True, False], last_wins=last_wins)
        assert found == [1, 1, -1]
        assert match_corners(boxes, [WHOLE, LEFT], [False] * 3, last_wins=last_wins) == [-1, -1]


def test_no_box_and_boxes_that_overlap_nothing_match_nothing():
    assert match_corners(np.zeros((0, 4)), [WHOLE, LEFT]) == [-1, -1]
    assert match_corners([[0.5, 0.5, 0.5, 0.5], [3, 3, 4, 4]], [WHOLE, LEFT]) == [-1, -1]
