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
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mobilenets_jax.data import preprocessing
from mobilenets_jax.data.example_format import Target
from mobilenets_jax.data.options import DataOptions
from mobilenets_jax.data.order import Layout
from mobilenets_jax.data.splits import Element
from mobilenets_jax.errors import UserError

INTERLEAVED_SHARDS = 16
SHUFFLE_BUFFER = 16384  # examples
READ_BUFFER_BYTES = 8 * 2**20


class ShardPart(NamedTuple):
    """Neighbouring records of a shard.

    Attributes:
        path: the shard.
        length: how many records it must hold.
        skip: how many of them come before those that are meant.
        count: how many records; None: all after the first.
    """

    path: str
    length: int
    skip: int = 0
    count: int | None = None

    @property
    def take(self) -> int:
        """How many records are meant."""
        return self.length - self.skip if self.count is None else self.count


@dataclasses.dataclass(frozen=True)
class RecordStream:
    """A `splits.Split` of TFRecord shards; its elements have a 'record', the bytes of a TFRecord.

    Attributes:
        parts: the shards, or parts of them. An example's index counts through all parts.
        read: as in `Split`.
        describe: as in `Split`.

    Raises:
        UserError: a shard is missing.
    """

    parts: Sequence[ShardPart]
    read: Callable[[Element], tuple[tf.Tensor, Target]]
    describe: Callable[[Element], str]

    def __post_init__(self):
        for part in self.parts:
            if not tf.io.gfile.exists(part.path):
                raise UserError(f'{part.path} cannot be read: No such file or directory.')

    @property
    def num_examples(self) -> int:
        """How many examples there are."""
        return sum(part.take for part in self.parts)

    def train_elements(self, options: DataOptions, layout: Layout, start: int) -> tf.data.Dataset:
        """As in `Split`."""
        repeats = options.repeated_augmentation
        epoch, consumed = divmod(start // repeats, self.num_examples)
        stream = tf.data.Dataset.counter(epoch).flat_map(lambda value: self._epoch(options.seed, value)).skip(consumed)
        if repeats > 1:
            stream = stream.batch(options.batch_size // repeats).flat_map(lambda batch: _copies(batch, repeats))
        return _own_rows(stream, options, layout)

    def eval_elements(self, options: DataOptions, layout: Layout, start: int) -> tf.data.Dataset:
        """As in `Split`."""
        records = tf.data.Dataset.range(len(self.parts)).flat_map(self._shard)
        return _own_rows(records.skip(start), options, layout)

    def element(self, epoch: int, index: int) -> Element:
        """As in `Split`; reads the shard up to the record."""
        ends = np.cumsum([part.take for part in self.parts])
        shard = int(np.searchsorted(ends, index, side='right'))
        position = index - (ends[shard] - self.parts[shard].take)
        (element,) = self._shard(shard).skip(position).take(1)
        return element | {'epoch': tf.constant(epoch, tf.int32)}

    def find_damage(self) -> UserError | None:
        """As in `Split`; reads every shard until it meets the fault."""
        for part in self.parts:
            count = 0
            try:
                for _ in tf.data.TFRecordDataset(part.path, buffer_size=READ_BUFFER_BYTES):
                    count += 1
            except tf.errors.OpError:
                return UserError(f'{part.path} is damaged behind its first {count} of {part.length} records.')
            if count != part.length:
                return UserError(f'{part.path} holds {count} records, but should hold {part.length}.')
        return None

    def _epoch(self, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
        """All examples in the order of one epoch."""
        key = preprocessing.example_seed(seed, epoch, -1)  # -1 is no example's index.
        shards = tf.random.experimental.stateless_shuffle(tf.range(len(self.parts), dtype=tf.int64), key)
        records = tf.data.Dataset.from_tensor_slices(shards).interleave(
            self._shard, cycle_length=INTERLEAVED_SHARDS, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        records = records.shuffle(SHUFFLE_BUFFER, seed=key[0], reshuffle_each_iteration=False)
        return records.map(lambda element: element | {'epoch': tf.cast(epoch, tf.int32)})

    def _shard(self, shard: int | tf.Tensor) -> tf.data.Dataset:
        """The records of one part in order; fails if it was cut short, which would otherwise shift what follows."""
        paths, skips, takes = zip(*((part.path, part.skip, part.take) for part in self.parts), strict=True)
        first = tf.constant(np.cumsum([0, *takes]), tf.int64)[shard]
        records = tf.data.TFRecordDataset(tf.constant(paths)[shard], buffer_size=READ_BUFFER_BYTES)
        records = records.skip(tf.constant(skips, tf.int64)[shard])
        length = tf.constant(takes, tf.int64)[shard]
        if any(part.skip + part.take < part.length for part in self.parts):  # Else a shard too long is an error.
            records = records.take(length)
        records = records.apply(tf.data.experimental.assert_cardinality(length)).enumerate(first)
        return records.map(lambda index, record: {'index': tf.cast(index, tf.int32), 'record': record})


def _copies(batch: Element, repeats: int) -> tf.data.Dataset:
    """The elements of `batch` `repeats` times, copy after copy, as in `order.train_rows`."""

    def numbered(copy):
        epoch = repeats * batch['epoch'] + tf.cast(copy, tf.int32)
        return tf.data.Dataset.from_tensor_slices(batch | {'epoch': epoch})

    return tf.data.Dataset.range(repeats).flat_map(numbered)


def _own_rows(stream: tf.data.Dataset, options: DataOptions, layout: Layout) -> tf.data.Dataset:
    """Those elements of a stream of all processes' rows, beginning with a global batch, that are this process's."""
    own = layout.rows(options.batch_size)

    def is_own(position, _):
        row = position % options.batch_size
        return (own.start <= row) & (row < own.stop)

    return stream.enumerate().filter(is_own).map(lambda _, element: element)
