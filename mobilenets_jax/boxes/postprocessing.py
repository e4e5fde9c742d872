"""Detections from the outputs of a detector's head."""

from collections.abc import Mapping

import jax
from jax import lax

from mobilenets_jax.boxes.coder import BoxCoder
from mobilenets_jax.boxes.geometry import clip
from mobilenets_jax.boxes.suppression import Detections, NmsSpec, detect
from mobilenets_jax.errors import check_choice

SCORES = {'sigmoid': jax.nn.sigmoid, 'softmax': jax.nn.softmax}


def postprocess(
    outputs: Mapping[str, jax.Array], anchors: jax.Array, coder: BoxCoder, scores: str, nms: NmsSpec
) -> Detections:
    """The detections of each image, with boxes inside of it; fields as of `Detections`, with N as their first axis.

    Args:
        outputs: 'codes' [N, A, 4] and 'logits' [N, A, 1 + classes], whose first column is the background.
        anchors: with their centres, [A, 4].
        coder: that the head was trained with.
        scores: what makes scores out of logits, a key of `SCORES`.
        nms: how detections are chosen.
    """
    check_choice('scores', scores, SCORES)

    def of_image(image):
        codes, logits = (leaf.astype('float32') for leaf in image)
        return detect(clip(coder.decode(codes, anchors)), SCORES[scores](logits)[:, 1:], nms)

    # One image after the other: the overlaps of all candidates of all classes of a batch would not fit in the memory.
    return lax.map(of_image, (outputs['codes'], outputs['logits']))
