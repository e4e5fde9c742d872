"""Which box each anchor of a detector is trained for.

Paper: Liu et al., 1512.02325 section 2.2 ("matching strategy").
Reference: tensorflow/models research/object_detection/matchers/argmax_matcher.py, with `force_match_for_each_row`;
torchvision/models/detection/_utils.py `SSDMatcher`.
Differs: both give a box that overlaps no anchor at all the first anchor; here it has none.
"""

import jax
import jax.numpy as jnp

from mobilenets_jax.boxes.geometry import iou, to_corners

UNMATCHED = -1


def match(
    boxes: jax.Array, valid: jax.Array, anchors: jax.Array, threshold: float = 0.5, last_wins: bool = False
) -> jax.Array:
    """The box that each anchor is matched with.

    An anchor is matched with the box that it overlaps most, if by `threshold` or more. Besides, each box forces a match
    with the anchor that overlaps it most, however little.

    Args:
        boxes: in corners, [M, 4]; M may be 0.
        valid: which of them are boxes, bool [M]; the others are padding and are matched with none.
        anchors: with their centres, [A, 4].
        threshold: the least intersection over union of a match that is not forced, in (0, 1].
        last_wins: which box has the anchor that several boxes force: the last (torchvision), or the first (TensorFlow).

    Returns:
        int32 [A], an index into `boxes`, or `UNMATCHED`.
    """
    if not boxes.shape[0]:
        return jnp.full(anchors.shape[0], UNMATCHED, jnp.int32)
    overlaps = jnp.where(valid[:, None], iou(boxes, to_corners(jnp.asarray(anchors))), UNMATCHED)  # (M, A)
    matches = jnp.where(overlaps.max(axis=0) >= threshold, overlaps.argmax(axis=0), UNMATCHED)
    # Comparing with the index instead of writing to it: the order in which equal indices are written is not defined.
    forced = overlaps.argmax(axis=1)[:, None] == jnp.arange(anchors.shape[0])
    forced &= overlaps.max(axis=1, keepdims=True) > 0
    numbers = jnp.arange(boxes.shape[0])[:, None]
    if last_wins:
        forcing = jnp.where(forced, numbers, UNMATCHED).max(axis=0)
    else:
        forcing = jnp.where(forced.any(axis=0), forced.argmax(axis=0), UNMATCHED)
    return jnp.where(forcing >= 0, forcing, matches).astype(jnp.int32)
