"""Data sets whose sizes are known without having them: for compiling a run on a machine that has none of its data."""

from collections.abc import Iterator

import numpy as np

from mobilenets_jax.data.dataset import Dataset
from mobilenets_jax.data.options import Options
from mobilenets_jax.data.order import Layout
from mobilenets_jax.errors import UserError

# Classes, training and evaluation examples.
SIZES = {'tfds:imagenet2012': (1000, 1_281_167, 50_000)}


class ShapesOnly(Dataset):
    """A data set that knows everything but its images."""

    def __init__(self, name: str, options: Options):
        """Looks `name` up in `SIZES`."""
        num_classes, num_train, num_eval = SIZES[name]
        super().__init__(name, tuple(map(str, range(num_classes))), num_train, num_eval, options)

    def _train_rows(self, layout: Layout, start: int) -> Iterator[dict[str, np.ndarray]]:
        raise UserError(f'data.name={self.name!r} is known by its sizes alone: it can be compiled for, not read.')

    def _eval_rows(self, layout: Layout) -> Iterator[dict[str, np.ndarray]]:
        return self._train_rows(layout, 0)
