"""Training images whose accuracy a search goes by, and which no weight is trained on."""

import dataclasses

import jax
import numpy as np

from mobilenets_jax.errors import check


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The same images in every epoch, on every number of devices.

    Attributes:
        percent: of the training images, in (0, 100).
        seed: of the draw.
    """

    percent: float
    seed: int

    def __post_init__(self):
        check(0 < self.percent < 100, 'search.held_out_percent', self.percent, 'must be above 0 and below 100')

    def rows(self, index: jax.Array) -> jax.Array:
        """Whether each example, by its number in the training set, int [n], is held out; bool [n], to be traced."""
        key = jax.random.key(self.seed)
        uniform = jax.vmap(lambda number: jax.random.uniform(jax.random.fold_in(key, number)))(index)
        return uniform < self.percent / 100

    def count(self, num_train: int) -> int:
        """How many of the training images are held out."""
        return int(jax.jit(lambda index: self.rows(index).sum())(np.arange(num_train)))
