"""Images that are read and decoded on the host with tf.data: what image folders and TFDS share.

A split hands out *elements*, the undecoded examples of one process in the order of the run; the elements are read,
decoded and distorted in parallel without losing that order, and batched.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import tensorflow as tf

from mobilenets_jax.data import order, preprocessing
from mobilenets_jax.data.dataset import Dataset, Options
from mobilenets_jax.data.order import Layout
from mobilenets_jax.data.preprocessing import ImageOptions
from mobilenets_jax.errors import UserError

PREFETCHED_BATCHES = 2

Element = dict[str, tf.Tensor]


class Split(Protocol):
    """The encoded examples of one split.

    Attributes:
        num_examples: how many there are.
        read: maps an element to its file's bytes, a string scalar, and its label, an integer scalar (in a graph).
        describe: names an element for an error message.
    """

    num_examples: int
    read: Callable[[Element], tuple[tf.Tensor, tf.Tensor]]
    describe: Callable[[Element], str]

    def train_elements(self, options: Options, layout: Layout, start: int) -> tf.data.Dataset:
        """This process's elements from position `start` on, for ever, with 'epoch' and 'index' (int32 scalars)."""

    def eval_elements(self, options: Options, layout: Layout, start: int) -> tf.data.Dataset:
        """This process's elements from position `start` (a multiple of the batch size) on, each once."""


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
    read: Callable[[Element], tuple[tf.Tensor, tf.Tensor]]
    describe: Callable[[Element], str]

    def train_elements(self, options: Options, layout: Layout, start: int) -> tf.data.Dataset:
        """As in `Split`."""
        return self._elements(
            lambda: order.train_rows(self.num_examples, options.batch_size, options.seed, layout, start)
        )

    def eval_elements(self, options: Options, layout: Layout, start: int) -> tf.data.Dataset:
        """As in `Split`."""

        def rows():
            batches = order.eval_rows(self.num_examples, options.batch_size, layout)
            for index in itertools.islice(batches, start // options.batch_size, None):
                yield np.zeros_like(index), index

        return self._elements(rows)

    def _elements(self, rows: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]) -> tf.data.Dataset:
        def generate():  # A batch at a time: a call into Python for every example would be the bottleneck.
            for epoch, index in rows():
                yield {'epoch': epoch, 'index': index, **self.fetch(index)}

        types = {'epoch': tf.int32, 'index': tf.int32, **self.signature}
        signature = {key: tf.TensorSpec([None], dtype) for key, dtype in types.items()}
        return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(1).unbatch()


class HostDataset(Dataset):
    """A data set of encoded images, decoded and distorted on the host."""

    def __init__(
        self,
        name: str,
        class_names: tuple[str, ...],
        train: Split | None,
        evaluation: Split,
        options: Options,
        image_options: ImageOptions,
        num_threads: int,
    ):
        """Joins two splits; `train` is None for an evaluation set, `num_threads` is 0 for tf.data's own choice."""
        super().__init__(name, class_names, train.num_examples if train else 0, evaluation.num_examples, options)
        self._train = train
        self._evaluation = evaluation
        self._image_options = image_options
        self._num_threads = num_threads
        tf.config.set_visible_devices([], 'GPU')  # TensorFlow would take the memory that JAX needs.

    def _train_rows(self, layout: Layout, start: int) -> Iterator[dict[str, np.ndarray]]:
        def example(element):
            encoded, label = self._train.read(element)
            seed = preprocessing.example_seed(self._options.seed, element['epoch'], element['index'])
            image = preprocessing.train_image(encoded, seed, self._image_options)
            return {
                'image': image,
                'label': tf.cast(label, tf.int32),
                'epoch': element['epoch'],
                'index': element['index'],
            }

        return self._batches(self._train, self._train.train_elements, example, layout, start)

    def _eval_rows(self, layout: Layout) -> Iterator[dict[str, np.ndarray]]:
        def example(element):
            encoded, label = self._evaluation.read(element)
            image = preprocessing.eval_image(encoded, self._image_options)
            return {'image': image, 'label': tf.cast(label, tf.int32)}

        return self._batches(self._evaluation, self._evaluation.eval_elements, example, layout, start=0)

    def _batches(
        self,
        split: Split,
        elements: Callable[[Options, Layout, int], tf.data.Dataset],
        example: Callable[[Element], Element],
        layout: Layout,
        start: int,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields batches [<= rows, ...] of what `example` makes of the split's `elements` from position `start` on.

        Raises:
            UserError: an example cannot be read or decoded; the message names it.
        """
        batch_size = self._options.batch_size
        rows = len(layout.rows(batch_size))
        dataset = elements(self._options, layout, start).map(example, num_parallel_calls=tf.data.AUTOTUNE)
        dataset = dataset.batch(rows).prefetch(PREFETCHED_BATCHES).with_options(self._tf_options())
        iterator = dataset.as_numpy_iterator()
        for position in itertools.count(start, batch_size):
            try:
                batch = next(iterator, None)
            except tf.errors.OpError as error:
                # The order is a function of the position, so the failed batch can be read again, one by one.
                again = elements(self._options, layout, position).take(rows)
                raise _find_fault(again, example, split.describe) or error from error
            if batch is None:
                return
            yield batch

    def _tf_options(self) -> tf.data.Options:
        options = tf.data.Options()
        options.deterministic = True
        if self._num_threads:
            options.threading.private_threadpool_size = self._num_threads
        return options


def _find_fault(elements: tf.data.Dataset, example: Callable, describe: Callable[[Element], str]) -> UserError | None:
    """An error that names the first element that `example` fails on, or says why the elements cannot be read."""
    try:
        for element in elements:
            try:
                example(element)
            except tf.errors.OpError as error:
                return UserError(f'{describe(element)} cannot be read as an image: {_reason(error)}')
    except tf.errors.OpError as error:
        return UserError(f'The data cannot be read: {_reason(error)}')
    return None


def _reason(error: tf.errors.OpError) -> str:
    """The first line of the message, without the names of TensorFlow's functions."""
    return re.sub(r'{{.*?}}\s*|\s*\[Op:.*', '', error.message.partition('\n')[0])
