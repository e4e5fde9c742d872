"""Images with random objects, and detections; some of them fit, and many have equal scores."""

import numpy as np

from mobilenets_jax.data.annotations import Annotations

CLASSES = 4  # the last one has no object
ROWS = 24  # detections of an image, with padding


def random_set(seed, *, crowds=False, difficult=False, images=16):
    """The annotations, whose ids are not in the order of the set; and the rows of a detector."""
    rng = np.random.default_rng(seed)
    annotations = [_image(rng, index, 101 * (index + 1) % 37, crowds, difficult) for index in range(images)]
    rows = [_detections(rng, image) for image in annotations]
    return annotations, {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _image(rng, index, image_id, crowds, difficult):
    height, width = (int(side) for side in rng.integers(80, 400, 2))
    count = int(rng.integers(0, 7))
    corner, size = rng.uniform(0, 0.5, (count, 2)), rng.uniform(0.03, 0.5, (count, 2))
    boxes = (np.concatenate([corner, corner + size], axis=1) * [height, width, height, width]).astype(np.float32)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) * rng.uniform(0.4, 1, count).astype(np.float32)
    labels = rng.integers(0, CLASSES - 1, count).astype(np.int32)
    flags = [rng.uniform(size=count) < 0.2 for _ in range(2)]
    return Annotations(
        f'{index}.jpg', image_id, height, width, boxes, labels, area, flags[0] & crowds, flags[1] & difficult
    )


def _detections(rng, image):
    size = np.tile([image.height, image.width], 2)
    found = []
    for box, label in zip(image.boxes, image.labels, strict=True):
        for _ in range(rng.integers(0, 4)):
            label = label if rng.uniform() < 0.9 else int(rng.integers(0, CLASSES))
            found.append((box / size + rng.normal(0, 0.02, 4), label, rng.uniform(0.2, 1)))
    for _ in range(rng.integers(0, 5)):
        corner, extent = rng.uniform(0, 0.6, 2), rng.uniform(0.05, 0.4, 2)
        label = int(rng.integers(0, CLASSES))
        found.append((np.concatenate([corner, corner + extent]), label, rng.uniform(0.05, 0.7)))
    found.sort(key=lambda row: -np.round(16 * row[2]))
    rows = {
        'boxes': np.zeros((ROWS, 4), np.float32),
        'scores': np.zeros(ROWS, np.float32),
        'labels': np.full(ROWS, -1, np.int32),
    }
    for place, (box, label, score) in enumerate(found[:ROWS]):
        first, second = box[:2], box[2:]
        rows['boxes'][place] = np.concatenate([np.minimum(first, second), np.maximum(first, second)])
        rows['scores'][place], rows['labels'][place] = np.round(16 * score) / 16, label
    return rows
