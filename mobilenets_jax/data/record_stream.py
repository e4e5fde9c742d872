"""TFRecord shards, which cannot be read at random, as a deterministic and resumable stream.

Every process reads every shard and keeps the rows that are its own before it decodes them.

It guarantees what random access does: a global batch depends on (seed, position) alone, not on the number of
processes, devices or threads; every example comes once in an epoch; a run resumes at any example.

It costs: reading, though not decoding, the whole set once per epoch on every process; reading what was already
consumed of the current epoch when it resumes; SHUFFLE_BUFFER undecoded examples of memory (about 1.8 GB of ImageNet),
filled anew at the start of each epoch. And the shuffle is not uniform: the shards are permuted anew for each epoch,
INTERLEAVED_SHARDS of them are read in turn, and examples change places within the buffer.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from mobilenets_jax.data import preprocessing
from mobilenets_jax.data.dataset import Options
from mobilenets_jax.data.host_pipeline import Element
from mobilenets_jax.data.order import Layout

INTERLEAVED_SHARDS = 16
SHUFFLE_BUFFER = 16384  # examples
READ_BUFFER_BYTES = 8 * 2**20


@dataclasses.dataclass(frozen=True)
class RecordStream:
    """A `host_pipeline.Split` of TFRecord shards; its elements have a 'record', the bytes of a TFRecord.

    Attributes:
        paths: the shards.
        shard_lengths: how many examples each of them holds. An example's index counts through all shards.
        read: as in `Split`.
        describe: as in `Split`.
    """

    paths: Sequence[str]
    shard_lengths: Sequence[int]
    read: Callable[[Element], tuple[tf.Tensor, tf.Tensor]]
    describe: Callable[[Element], str]

    @property
    def num_examples(self) -> int:
        """How many examples there are."""
        return sum(self.shard_lengths)

    def train_elements(self, options: Options, layout: Layout, start: int) -> tf.data.Dataset:
        """As in `Split`."""
        epoch, consumed = divmod(start, self.num_examples)
        stream = tf.data.Dataset.counter(epoch).flat_map(lambda value: self._epoch(options.seed, value))
        return _own_rows(stream.skip(consumed), options, layout)

    def eval_elements(self, options: Options, layout: Layout, start: int) -> tf.data.Dataset:
        """As in `Split`."""
        records = self._checked(_numbered(tf.constant(self.paths), first=0))
        return _own_rows(records.skip(start), options, layout)

    def _epoch(self, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
        """All examples in the order of one epoch."""
        key = preprocessing.example_seed(seed, tf.cast(epoch, tf.int32), -1)  # -1 is no example's index.
        shards = tf.random.experimental.stateless_shuffle(tf.range(len(self.paths), dtype=tf.int64), key)
        records = tf.data.Dataset.from_tensor_slices(shards).interleave(
            self._shard, cycle_length=INTERLEAVED_SHARDS, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        records = self._checked(records).shuffle(
            SHUFFLE_BUFFER, seed=tf.cast(key[0], tf.int64), reshuffle_each_iteration=False
        )
        return records.map(lambda element: element | {'epoch': tf.cast(epoch, tf.int32)})

    def _shard(self, shard: tf.Tensor) -> tf.data.Dataset:
        first = tf.constant(np.cumsum([0, *self.shard_lengths]), tf.int64)[shard]
        return _numbered(tf.constant(self.paths)[shard], first)

    def _checked(self, records: tf.data.Dataset) -> tf.data.Dataset:
        """Fails at the end if a shard was cut short, which would otherwise go unnoticed and shift what follows."""
        return records.apply(tf.data.experimental.assert_cardinality(self.num_examples))


def _numbered(paths: tf.Tensor, first: int | tf.Tensor) -> tf.data.Dataset:
    """The records of one or more shards in order, as elements whose 'index' counts from `first`."""
    records = tf.data.TFRecordDataset(paths, buffer_size=READ_BUFFER_BYTES).enumerate(first)
    return records.map(lambda index, record: {'index': tf.cast(index, tf.int32), 'record': record})


def _own_rows(stream: tf.data.Dataset, options: Options, layout: Layout) -> tf.data.Dataset:
    """Those elements of a stream of all processes' rows, beginning with a global batch, that are this process's."""
    own = layout.rows(options.batch_size)

    def is_own(position, _):
        row = position % options.batch_size
        return (own.start <= row) & (row < own.stop)

    return stream.enumerate().filter(is_own).map(lambda _, element: element)
