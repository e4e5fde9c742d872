"""The programs that race, one module each.

A function for each task returns what does one step. Its result may not be computed yet where the module has `wait`.
JAX's have the attribute `lower`, which gives the step for the compiler to report on.
"""

import numpy as np

CLASSES = 1000


def examples(batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [batch, size, size, 3] in [-1, 1] and labels int32 [batch], the same for every contender."""
    generator = np.random.default_rng(0)
    images = generator.uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)
    return images, generator.integers(CLASSES, size=batch).astype(np.int32)
