"""Top-1, top-5 and loss of an evaluation set."""

from collections.abc import Mapping, Sequence

import numpy as np


def classification_metrics(sums: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The metrics of `training.classification.ClassificationTask`.

    Args:
        sums: of its `evaluate` over the set.
        rows: not looked at.

    Returns:
        'top1' and 'top5' in percent, and 'loss' (mean cross-entropy, nats).
    """
    count = sums['count']
    return {
        'top1': 100 * sums['top1'] / count,
        'top5': 100 * sums['top5'] / count,
        'loss': sums['loss'] / count,
    }


def real_metrics(predicted: np.ndarray, labels: Sequence[frozenset[int]]) -> dict[str, float]:
    """The accuracy by labels of which an image may have several, or none: then it does not count.

    Args:
        predicted: the likeliest class of each image, int [n].
        labels: of each image.

    Returns:
        'real_top1', how many of the images that have labels show the likeliest class, in percent; and 'real_count',
        how many these are.
    """
    hits = [label in of_image for label, of_image in zip(predicted.tolist(), labels, strict=True) if of_image]
    return {'real_top1': 100 * sum(hits) / len(hits), 'real_count': len(hits)}
