"""Mean intersection over union of an evaluation set."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mobilenets_jax.errors import RunError


def total_confusion(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """How many pixels of each class (rows) were taken for each (columns), over the whole set, int64."""
    return rows['confusion'].astype(np.int64).sum(axis=0)


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, [classes]; NaN for one that is neither there nor found."""
    hits = np.diag(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - np.diag(confusion)
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def segmentation_metrics(sums: Mapping[str, Any], rows: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The metrics of `training.segmentation.SegmentationTask`.

    Args:
        sums: not looked at.
        rows: of its `evaluate`.

    Returns:
        'miou' in percent, the mean over the classes that the labels of the set have; 'pixel_accuracy' in percent; and
        'loss', the mean cross-entropy of a pixel, nats.

    Raises:
        RunError: every pixel of the set is ignored.
    """
    confusion = total_confusion(rows)
    pixels = confusion.sum()
    if not pixels:
        raise RunError('Every pixel of the evaluation set is ignored: nothing can be measured.')
    return {
        'miou': 100 * class_iou(confusion)[confusion.sum(axis=1) > 0].mean(),
        'pixel_accuracy': 100 * np.trace(confusion) / pixels,
        'loss': rows['loss'].astype(np.float64).sum() / pixels,
    }
