"""Evaluation sets of awkward sizes, and a network with random parameters to evaluate on them. No test in here."""

from typing import Any

import jax
import numpy as np

from mobilenets_jax.data.memory import MemoryDataset
from mobilenets_jax.data.options import DataOptions
from mobilenets_jax.models import create_model

SIZES = (1, 7, 103)  # less than a batch, less than the devices, and some batches with a rest
BATCH_SIZE = 16
IMAGE_SIZE = 32
NUM_CLASSES = 10


def make_model() -> Any:
    """The network, as small as they come."""
    return create_model('mobilenet_v1', NUM_CLASSES, 0.25)


def make_variables(model: Any) -> dict[str, Any]:
    """Random parameters and statistics, of a size that keeps activations in range."""
    images = jax.ShapeDtypeStruct((1, IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
    shapes = jax.eval_shape(lambda key, images: model.init(key, images, train=False), jax.random.key(0), images)
    generator = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ('scale', 'var'):
            return generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 16
        return (generator.standard_normal(leaf.shape) * np.sqrt(2 / fan_in)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def make_examples() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [103, 32, 32, 3] and labels int32 [103], of which every set takes the first ones."""
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (max(SIZES), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    return images, generator.integers(0, NUM_CLASSES, max(SIZES), np.int32)


def make_dataset(size: int) -> MemoryDataset:
    """The first `size` examples, for evaluation."""
    images, labels = make_examples()
    examples = images[:size], labels[:size]
    names = tuple(map(str, range(NUM_CLASSES)))
    options = DataOptions(IMAGE_SIZE, BATCH_SIZE, seed=0, normalization='symmetric')
    return MemoryDataset('noise', names, examples, examples, augment=lambda keys, images: images, options=options)
