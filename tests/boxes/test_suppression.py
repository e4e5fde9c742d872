"""Non-maximum suppression equals plain loops on thousands of random cases, ties and all."""

import functools

import jax
import numpy as np
import plain
import pytest

from mobilenets_jax.boxes.anchors import make_anchors, tf_anchors
from mobilenets_jax.boxes.coder import BoxCoder
from mobilenets_jax.boxes.postprocessing import postprocess
from mobilenets_jax.boxes.suppression import TF_NMS, NmsSpec, detect
from mobilenets_jax.errors import UserError

CASES, ANCHORS, CLASSES = 800, 20, 3
SPECS = [
    NmsSpec(score_threshold=0.1, iou_threshold=0.5, candidates_per_class=20, max_detections=12),
    NmsSpec(score_threshold=0.0, iou_threshold=0.3, candidates_per_class=8, max_detections=100),
    NmsSpec(score_threshold=0.3, iou_threshold=0.6, candidates_per_class=400, max_detections=9, max_per_class=2),
]


def assert_same(found, expected):
    """`found` of one image has the rows `expected` and then empty ones."""
    boxes, scores, labels = (np.asarray(leaf) for leaf in found)
    assert (boxes.dtype, scores.dtype, labels.dtype) == (np.float32, np.float32, np.int32)
    count = len(expected[1])
    np.testing.assert_array_equal(scores[:count], np.array(expected[1], np.float32))
    np.testing.assert_array_equal(labels[:count], expected[2])
    np.testing.assert_array_equal(boxes[:count], np.reshape(expected[0], (count, 4)))
    assert (labels[count:] == -1).all() and not scores[count:].any() and not boxes[count:].any()


@pytest.mark.parametrize('spec', SPECS)
def test_equals_plain_loops(spec):
    generator = np.random.default_rng(0)
    boxes = plain.grid_boxes(generator, CASES, ANCHORS, cells=4)
    scores = (generator.integers(0, 11, (CASES, ANCHORS, CLASSES)) / 10).astype(np.float32)
    scores[::7, :, 1] = 0  # a class without a detection
    scores[3] = 0  # an image without one
    found = jax.jit(jax.vmap(functools.partial(detect, spec=spec)))(boxes, scores)
    assert found.boxes.shape == (CASES, spec.max_detections, 4)
    for case in range(CASES):
        assert_same([leaf[case] for leaf in found], plain.detect(boxes[case], scores[case], spec))


def test_a_chain_of_boxes_is_decided_from_the_best_on():
    # Each box overlaps the next by a half: the second goes because of the first, and so cannot suppress the third.
    boxes = np.float32([[0, step, 1, step + 3] for step in range(30)])
    scores = np.linspace(0.9, 0.1, 30, dtype=np.float32)[:, None]
    spec = NmsSpec(score_threshold=0.0, iou_threshold=0.4, candidates_per_class=30, max_detections=30)
    found = jax.jit(detect, static_argnums=2)(boxes, scores, spec)
    assert_same(found, (boxes[::2], scores[::2, 0], [0] * 15))


def test_scores_of_lower_precision_are_float32():
    boxes = plain.grid_boxes(np.random.default_rng(2), 5)
    scores = jax.numpy.ones((5, 2), jax.numpy.bfloat16)
    found = jax.jit(detect, static_argnums=2)(jax.numpy.asarray(boxes, jax.numpy.bfloat16), scores, SPECS[0])
    assert (found.boxes.dtype, found.scores.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize('scores', ['sigmoid', 'softmax'])
def test_detections_of_a_head_of_1917_anchors_equal_plain_loops(scores):
    generator = np.random.default_rng(3)
    anchors = make_anchors(tf_anchors(), [(side, side) for side in (19, 10, 5, 3, 2, 1)], (300, 300))
    outputs = {
        'codes': generator.normal(0, 2, (2, len(anchors), 4)).astype(np.float32),
        'logits': generator.normal(0, 3, (2, len(anchors), 5)).astype(np.float32),
    }
    spec = NmsSpec(score_threshold=0.2, iou_threshold=0.6, candidates_per_class=200, max_detections=100)
    coder = BoxCoder()
    found = jax.jit(lambda outputs: postprocess(outputs, anchors, coder, scores, spec))(outputs)
    for image in range(2):
        logits = outputs['logits'][image].astype(np.float64)
        exponential = np.exp(logits)
        shares = exponential / (exponential.sum(-1, keepdims=True) if scores == 'softmax' else 1 + exponential)
        boxes = np.clip(coder.decode(outputs['codes'][image], anchors), 0, 1)
        expected = plain.detect(boxes, shares[:, 1:].astype(np.float32), spec)
        assert len(expected[1]) == 100
        np.testing.assert_array_equal(found.labels[image], expected[2])
        np.testing.assert_allclose(found.scores[image], expected[1], rtol=1e-5)
        np.testing.assert_allclose(found.boxes[image], expected[0], atol=1e-5)


def test_wrong_fields_are_named():
    with pytest.raises(UserError, match=r'iou_threshold=60 must be in \[0, 1\]'):
        NmsSpec(score_threshold=0.1, iou_threshold=60, candidates_per_class=1, max_detections=1)
    with pytest.raises(UserError, match='max_detections=0 must be positive'):
        NmsSpec(score_threshold=0.1, iou_threshold=0.6, candidates_per_class=1, max_detections=0)
    with pytest.raises(UserError, match="scores='tanh' is unknown. Known: sigmoid, softmax"):
        postprocess({}, None, BoxCoder(), 'tanh', TF_NMS)
