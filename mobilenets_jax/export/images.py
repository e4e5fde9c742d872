"""Real images to calibrate with and to compare on: some of a folder, or photographs that come with scikit-learn."""

from collections.abc import Sequence

import numpy as np

MAX_IMAGES = 200  # more do not widen the ranges much, and every one is kept


def spread(paths: Sequence[str], count: int = MAX_IMAGES) -> list[str]:
    """At most `count` of the paths, evenly spread, so that all classes of a sorted list have some."""
    chosen = np.linspace(0, len(paths), min(count, len(paths)), endpoint=False).astype(int)
    return [paths[index] for index in chosen]


def photographs(image_size: tuple[int, int]) -> np.ndarray:
    """Parts of two photographs, uint8 [8, H, W, 3] of a height and width in pixels; they do not keep their aspect."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    parts = []
    for photograph in map(Image.fromarray, load_sample_images().images):
        side = min(photograph.size) * 3 // 4
        right, low = photograph.width - side, photograph.height - side
        for left, top in ((0, 0), (right, 0), (0, low), (right, low)):
            part = photograph.crop((left, top, left + side, top + side))
            parts.append(np.asarray(part.resize(image_size[::-1], Image.Resampling.BILINEAR)))
    return np.stack(parts)
