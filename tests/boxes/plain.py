"""Matching and suppression as plain loops, and boxes whose overlaps are often equal.

The corners of these boxes lie on a coarse grid, so that float32 has all areas exactly: then ties are ties in every
implementation, and there are many.
"""

import numpy as np


def grid_boxes(generator, *shape, cells=8):
    """Boxes in corners with positive sides, float32 [*shape, 4]."""
    low = generator.integers(0, cells - 1, (*shape, 2))
    high = low + 1 + np.floor(generator.random((*shape, 2)) * (cells - low - 1)).astype(int)
    return (np.concatenate([low, high], axis=-1) / cells).astype(np.float32)


def iou(a, b):
    """Of two boxes in corners."""
    height = max(np.float32(0), min(a[2], b[2]) - max(a[0], b[0]))
    width = max(np.float32(0), min(a[3], b[3]) - max(a[1], b[1]))
    shared = height * width
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else np.float32(0)


def match(boxes, anchors, threshold, last_wins, force=True):
    """The box of each anchor, -1 for none; all are in corners and none is padding."""
    overlaps = np.array([[iou(box, anchor) for anchor in anchors] for box in boxes]).reshape(len(boxes), len(anchors))
    matches = np.full(len(anchors), -1)
    for anchor in range(len(anchors)):
        if len(boxes) and overlaps[:, anchor].max() >= threshold:
            matches[anchor] = overlaps[:, anchor].argmax()
    forced = {}
    for box in range(len(boxes) if force else 0):
        best = overlaps[box].argmax()
        if overlaps[box, best] > 0 and (last_wins or best not in forced):
            forced[best] = box
    for anchor, box in forced.items():
        matches[anchor] = box
    return matches


def detect(boxes, scores, spec):
    """Lists of the boxes, scores and labels that are detected."""
    found = []
    for label in range(scores.shape[1]):
        order = np.argsort(-scores[:, label], kind='stable')[: spec.candidates_per_class]
        kept = []
        for anchor in order:
            if scores[anchor, label] <= spec.score_threshold or len(kept) == spec.max_per_class:
                continue
            if all(iou(boxes[anchor], boxes[other]) <= spec.iou_threshold for other in kept):
                kept.append(anchor)
        found += [(boxes[anchor], scores[anchor, label], label) for anchor in kept]
    found.sort(key=lambda row: -row[1])  # stable
    found = found[: spec.max_detections]
    return tuple(list(column) for column in zip(*found, strict=True)) if found else ([], [], [])
