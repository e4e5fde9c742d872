"""The places of the encoded examples of one split, and their order: the interface of every source on the host.

A split hands out *elements*, the undecoded examples of one process in the order of the run.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import tensorflow as tf

from mobilenets_jax.data import order
from mobilenets_jax.data.example_format import Target
from mobilenets_jax.data.options import DataOptions
from mobilenets_jax.data.order import Layout
from mobilenets_jax.errors import UserError

Element = dict[str, tf.Tensor]


class Split(Protocol):
    """The encoded examples of one split.

    Attributes:
        num_examples: the number of examples.
        read: maps an element to the bytes of its image file, a string scalar, and its target, the data that the task
            learns, such as {'label': an integer scalar} (in a graph); see `example_format`.
        describe: names an element for an error message.
    """

    num_examples: int
    read: Callable[[Element], tuple[tf.Tensor, Target]]
    describe: Callable[[Element], str]

    def train_elements(self, options: DataOptions, layout: Layout, start: int) -> tf.data.Dataset:
        """This process's elements from position `start` on, for ever, with 'epoch' and 'index' (int32 scalars)."""

    def eval_elements(self, options: DataOptions, layout: Layout, start: int) -> tf.data.Dataset:
        """This process's elements from position `start` (a multiple of the batch size) on, each once."""

    def element(self, epoch: int, index: int) -> Element:
        """The element of one example, at any position."""

    def find_damage(self) -> UserError | None:
        """Looks for what keeps the elements themselves from being read; slow."""


@dataclasses.dataclass(frozen=True)
class IndexedSplit:
    """A `Split` with random access, read in the order of `order`.

    Attributes:
        num_examples: how many examples there are.
        fetch: maps indices, int32 [k], to the elements' fields, NumPy arrays [k].
        signature: the fields' types.
        read: as in `Split`.
        describe: as in `Split`.
    """

    num_examples: int
    fetch: Callable[[np.ndarray], dict[str, np.ndarray]]
    signature: dict[str, tf.DType]
    read: Callable[[Element], tuple[tf.Tensor, Target]]
    describe: Callable[[Element], str]

    def train_elements(self, options: DataOptions, layout: Layout, start: int) -> tf.data.Dataset:
        """As in `Split`."""
        return self._elements(lambda: order.train_rows(self.num_examples, options, layout, start))

    def eval_elements(self, options: DataOptions, layout: Layout, start: int) -> tf.data.Dataset:
        """As in `Split`."""

        def rows():
            batches = order.eval_rows(self.num_examples, options.batch_size, layout)
            for index in itertools.islice(batches, start // options.batch_size, None):
                yield np.zeros_like(index), index

        return self._elements(rows)

    def element(self, epoch: int, index: int) -> Element:
        """As in `Split`."""
        fields = {'epoch': np.array([epoch], np.int32), 'index': np.array([index], np.int32)}
        return {key: tf.constant(value[0]) for key, value in (fields | self.fetch(fields['index'])).items()}

    def find_damage(self) -> None:
        """As in `Split`: a record that cannot be fetched is an element that cannot be read, which needs no search."""

    def _elements(self, rows: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]) -> tf.data.Dataset:
        def generate():  # A batch at a time: a call into Python for every example would be the bottleneck.
            for epoch, index in rows():
                yield {'epoch': epoch, 'index': index, **self.fetch(index)}

        types = {'epoch': tf.int32, 'index': tf.int32, **self.signature}
        signature = {key: tf.TensorSpec([None], dtype) for key, dtype in types.items()}
        return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(1).unbatch()
