"""Detections out of the boxes and scores of all anchors, by non-maximum suppression of each class by itself.

Reference: tensorflow/models research/object_detection/core/post_processing.py `multiclass_non_max_suppression`;
torchvision/models/detection/ssd.py `postprocess_detections`.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mobilenets_jax.boxes.geometry import iou
from mobilenets_jax.errors import check

EMPTY = -1  # the label of a row without a detection


@dataclasses.dataclass(frozen=True, kw_only=True)
class NmsSpec:
    """How detections are chosen.

    Attributes:
        score_threshold: only scores above it are detections.
        iou_threshold: a box is suppressed if its intersection over union with a better one of its class is above it.
        candidates_per_class: how many boxes of each class, those with the best scores, are considered; the time and the
            memory grow with its square.
        max_detections: of an image.
        max_per_class: of a class of an image; None: as many as candidates.
    """

    score_threshold: float
    iou_threshold: float
    candidates_per_class: int
    max_detections: int
    max_per_class: int | None = None

    def __post_init__(self):
        for name in ('score_threshold', 'iou_threshold'):
            value = getattr(self, name)
            check(0 <= value <= 1, f'detection.{name}', value, 'must be in [0, 1]')
        for name in ('candidates_per_class', 'max_detections', 'max_per_class'):
            value = getattr(self, name)
            check(value is None or value >= 1, f'detection.{name}', value, 'must be positive')


TF_NMS = NmsSpec(
    score_threshold=1e-8, iou_threshold=0.6, candidates_per_class=200, max_detections=100, max_per_class=100
)
TORCHVISION_NMS = NmsSpec(score_threshold=0.001, iou_threshold=0.55, candidates_per_class=300, max_detections=300)
# On COCO; on Pascal VOC the thresholds were 0.01 and 0.45, of all candidates.
MOBILENEXT_NMS = NmsSpec(score_threshold=0.05, iou_threshold=0.5, candidates_per_class=200, max_detections=100)


class Detections(NamedTuple):
    """The detections of an image, those with the best scores first; equal scores in the order of class and candidate.

    Attributes:
        boxes: in corners, float32 [K, 4]; zeros in rows without a detection.
        scores: float32 [K]; 0 in rows without a detection.
        labels: int32 [K]; `EMPTY` in rows without a detection.
    """

    boxes: jax.Array
    scores: jax.Array
    labels: jax.Array


def detect(boxes: jax.Array, scores: jax.Array, spec: NmsSpec) -> Detections:
    """The detections of an image, `spec.max_detections` rows.

    Args:
        boxes: in corners, [A, 4].
        scores: of each class, without the background, [A, C].
        spec: how detections are chosen.
    """
    boxes, scores = boxes.astype(jnp.float32), scores.astype(jnp.float32)
    num_classes = scores.shape[1]
    scores, anchors = lax.top_k(scores.T, min(spec.candidates_per_class, len(boxes)))  # (C, k), equal ones in order
    boxes = boxes[anchors]  # (C, k, 4)
    kept = jax.vmap(lambda boxes, eligible: _kept(boxes, eligible, spec))(boxes, scores > spec.score_threshold)
    labels = jnp.broadcast_to(jnp.arange(num_classes, dtype=jnp.int32)[:, None], kept.shape)
    flat = Detections(boxes.reshape(-1, 4), jnp.where(kept, scores, 0).ravel(), jnp.where(kept, labels, EMPTY).ravel())
    missing = max(0, spec.max_detections - len(flat.scores))
    boxes, scores, labels = (
        jnp.pad(rows, ((0, missing), *((0, 0),) * (rows.ndim - 1)), constant_values=value)
        for rows, value in zip(flat, (0, 0, EMPTY), strict=True)
    )
    _, best = lax.top_k(jnp.where(labels == EMPTY, -1, scores), spec.max_detections)
    return Detections(jnp.where(labels[best, None] == EMPTY, 0, boxes[best]), scores[best], labels[best])


def _kept(boxes: jax.Array, eligible: jax.Array, spec: NmsSpec) -> jax.Array:
    """Which boxes of a class, [k, 4] with the best score first, are kept: bool [k].

    A box is kept if no better one that is kept overlaps it. That rule is applied to all boxes at once, again and again
    until nothing changes. The first i boxes do not change after i rounds, so it ends, with the answer of going through
    the boxes one by one; in practice after few rounds.
    """
    k = boxes.shape[0]
    suppresses = (iou(boxes, boxes) > spec.iou_threshold) & jnp.triu(jnp.ones((k, k), bool), 1)  # (better, worse)

    def decide(state):
        kept, _ = state
        decided = eligible & ~(suppresses & kept[:, None]).any(axis=0)
        return decided, (decided != kept).any()

    kept, _ = lax.while_loop(lambda state: state[1], decide, (eligible, jnp.array(True)))
    return kept & (jnp.cumsum(kept) <= (spec.max_per_class or k))
