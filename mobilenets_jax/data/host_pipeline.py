"""Images that are read and decoded on the host with tf.data: what image folders and TFDS share.

The elements of a split, undecoded examples, are read, decoded and distorted in parallel without losing their order, and
batched.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from mobilenets_jax import allocator
from mobilenets_jax.data import preprocessing
from mobilenets_jax.data.dataset import Dataset
from mobilenets_jax.data.example_format import ExampleFormat
from mobilenets_jax.data.fingerprint import Fingerprint
from mobilenets_jax.data.options import DataOptions, ReadOptions
from mobilenets_jax.data.order import Layout
from mobilenets_jax.data.splits import Element, Split
from mobilenets_jax.errors import UserError, check

PREFETCHED_BATCHES = 2

Example = Callable[[Element], Element]


class HostDataset(Dataset):
    """A data set of encoded images, decoded and distorted on the host.

    Attributes:
        evaluation: its evaluation split, before anything is decoded.
    """

    def __init__(
        self,
        name: str,
        class_names: tuple[str, ...],
        train: Split | None,
        evaluation: Split,
        example_format: ExampleFormat,
        options: DataOptions,
        read_options: ReadOptions,
        fingerprints: Mapping[str, Fingerprint],
    ):
        """Joins two splits, whose examples `example_format` makes; `train` is None for an evaluation set."""
        num_train = train.num_examples if train else 0
        num_eval, signature = evaluation.num_examples, example_format.signature
        super().__init__(name, class_names, num_train, num_eval, options, fingerprints, signature)
        self._train = train
        self.evaluation = evaluation
        self._format = example_format
        self._num_threads = read_options.num_threads
        skipped = read_options.skip_bad_records
        if train:
            check(skipped < train.num_examples, 'data.skip_bad_records', skipped, 'leaves no examples')
        self._bad_records = BadRecords(skipped)
        tf.config.set_visible_devices([], 'GPU')  # TensorFlow would take the memory that JAX needs.
        allocator.keep_heaps()

    def _train_rows(self, layout: Layout, start: int) -> Iterator[dict[str, np.ndarray]]:
        def example(element):
            seed = preprocessing.example_seed(self._options.seed, element['epoch'], element['index'])
            fields = self._format.train(*self._train.read(element), seed)
            return fields | {'epoch': element['epoch'], 'index': element['index']}

        return self._batches(self._train, self._train.train_elements, example, layout, start, self._bad_records)

    def _eval_rows(self, layout: Layout) -> Iterator[dict[str, np.ndarray]]:
        def example(element):
            return self._format.evaluate(*self.evaluation.read(element))

        return self._batches(self.evaluation, self.evaluation.eval_elements, example, layout, 0, BadRecords(0))

    def _batches(
        self,
        split: Split,
        elements: Callable[[DataOptions, Layout, int], tf.data.Dataset],
        example: Example,
        layout: Layout,
        start: int,
        bad_records: 'BadRecords',
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields batches [<= rows, ...] of `example` applied to the split's `elements`, from position `start` on.

        Raises:
            UserError: an example cannot be read or decoded, and may not be skipped; the message names it.
        """
        batch_size = self._options.batch_size
        rows = len(layout.rows(batch_size))

        def iterate(position):
            dataset = elements(self._options, layout, position).map(example, num_parallel_calls=tf.data.AUTOTUNE)
            dataset = dataset.batch(rows).prefetch(PREFETCHED_BATCHES).with_options(self._tf_options())
            return dataset.as_numpy_iterator()

        position, iterator = start, iterate(start)
        while True:
            try:
                batch = next(iterator, None)
            except tf.errors.OpError:
                # The order is a function of the position, so the failed batch can be read again, one by one.
                again = elements(self._options, layout, position).take(rows)
                batch = _read_one_by_one(split, again, example, bad_records)
                if batch is None:
                    raise
                iterator = iterate(position + batch_size)
            if batch is None:
                return
            yield batch
            position += batch_size

    def _tf_options(self) -> tf.data.Options:
        options = tf.data.Options()
        options.deterministic = True
        options.threading.max_intra_op_parallelism = 1  # Images are decoded side by side; threads within one only cost.
        if self._num_threads:
            options.threading.private_threadpool_size = self._num_threads
        return options


class BadRecords:
    """Counts and reports the examples that cannot be read; the first one beyond `limit` ends the run."""

    def __init__(self, limit: int):
        self._limit = limit
        self._seen: set[int] = set()

    def add(self, index: int, message: str) -> None:
        """Adds an example, once however often it is met; `UserError` with the message if there are too many."""
        if index in self._seen:
            return
        if len(self._seen) == self._limit:
            skipped = (
                f' {self._limit} others were skipped: data.skip_bad_records allows no more.' if self._limit else ''
            )
            raise UserError(message + skipped)
        self._seen.add(index)
        print(f'skipped {len(self._seen)} of at most {self._limit}: {message}', file=sys.stderr, flush=True)


def _read_one_by_one(
    split: Split, elements: tf.data.Dataset, example: Example, bad_records: BadRecords
) -> dict[str, np.ndarray] | None:
    """The batch of `elements` with the next readable example in the place of each bad one; None if none is bad.

    Raises:
        UserError: a bad example may not be skipped, or the elements themselves cannot be read.
    """
    rows, found = [], False
    examples = elements.map(example).as_numpy_iterator()  # continues after an element that fails
    try:
        for element in elements:
            try:
                rows.append(next(examples))
            except tf.errors.OpError as error:
                found = True
                rows.append(_next_readable(split, element, example, bad_records, error))
    except tf.errors.OpError as error:
        raise split.find_damage() or UserError(f'The data cannot be read: {reason(error)}') from error
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]} if found else None


def _next_readable(
    split: Split, element: Element, example: Example, bad_records: BadRecords, error: tf.errors.OpError
) -> dict[str, np.ndarray]:
    """The result of `example` for the first readable element after a bad one, by index."""
    epoch, index = int(element['epoch']), int(element['index'])
    while True:
        bad_records.add(index, f'{split.describe(element)} cannot be read: {reason(error)}')
        index = (index + 1) % split.num_examples
        element = split.element(epoch, index)
        try:
            return next(tf.data.Dataset.from_tensors(element).map(example).as_numpy_iterator())
        except tf.errors.OpError as next_error:
            error = next_error


def reason(error: Exception) -> str:
    """The first line of the message, without the names of TensorFlow's and Python's functions."""
    line = str(getattr(error, 'message', error)).partition('\n')[0]
    return re.sub(r'Error in user-defined .* with iterator: \S+ |{{.*?}}\s*|\s*\[Op:.*|ImageError: ', '', line)
