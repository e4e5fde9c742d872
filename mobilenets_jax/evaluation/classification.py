"""Top-1, top-5 and loss of an evaluation set."""

from collections.abc import Mapping

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
