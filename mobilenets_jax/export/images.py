"""Real images to calibrate with and to compare on: those of a folder, or photographs that come with scikit-learn."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from mobilenets_jax.data.image_files import SUFFIXES
from mobilenets_jax.errors import UserError, check

MAX_IMAGES = 200  # more do not widen the ranges much, and every one is kept


def find_images(directory: str) -> list[str]:
    """The image files in a folder and in the folders within it, sorted; `UserError` where there are none."""
    folder = pathlib.Path(directory).expanduser()
    check(folder.is_dir(), '--calibration', directory, 'is no folder')
    found = (os.path.join(place, name) for place, _, names in os.walk(folder, followlinks=True) for name in names)
    paths = sorted(path for path in found if path.lower().endswith(SUFFIXES))
    if not paths:
        raise UserError(f'--calibration={directory!r} holds no images. Known: {", ".join(SUFFIXES)}.')
    return paths


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
