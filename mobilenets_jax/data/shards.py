"""Shards of records in either file format as a `Split`, for what `prepare` and TFDS wrote."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from mobilenets_jax.data.array_records import ArrayRecords
from mobilenets_jax.data.record_stream import RecordStream
from mobilenets_jax.data.splits import Element, IndexedSplit, Split

FILE_FORMATS = ('array_record', 'tfrecord')  # random access, local disks only; a stream, from anywhere


def open_split(
    file_format: str, paths: Sequence[str], shard_lengths: Sequence[int], image_key: str, label_key: str
) -> Split:
    """Opens shards whose records are serialised tf.train.Examples.

    Args:
        file_format: one of `FILE_FORMATS`.
        paths: the shards.
        shard_lengths: how many records each of them must hold.
        image_key: the feature with the image file's bytes.
        label_key: the feature with the label, an integer.

    Raises:
        UserError: a shard is missing or, in ArrayRecord, does not hold as many records as it should.
    """
    features = {image_key: tf.io.FixedLenFeature([], tf.string), label_key: tf.io.FixedLenFeature([], tf.int64)}

    def read(element: Element) -> tuple[tf.Tensor, tf.Tensor]:
        example = tf.io.parse_single_example(element['record'], features)
        return example[image_key], example[label_key]

    describe = _describe(paths, shard_lengths)
    if file_format == 'tfrecord':
        return RecordStream(paths, shard_lengths, read, describe)
    records = ArrayRecords(paths, shard_lengths)
    signature = {'record': tf.string}
    return IndexedSplit(sum(shard_lengths), lambda index: {'record': records.fetch(index)}, signature, read, describe)


def _describe(paths: Sequence[str], shard_lengths: Sequence[int]) -> Callable[[Element], str]:
    ends = np.cumsum(shard_lengths)

    def describe(element: Element) -> str:
        index = int(element['index'])
        shard = int(np.searchsorted(ends, index, side='right'))
        return f'{paths[shard]} record {index - ends[shard] + shard_lengths[shard]} (example {index})'

    return describe
