"""Shards of records in either file format as a `Split`, for what `prepare` and TFDS wrote."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mobilenets_jax.data.array_records import ArrayRecords
from mobilenets_jax.data.example_format import Target
from mobilenets_jax.data.record_stream import RecordStream, ShardPart
from mobilenets_jax.data.splits import Element, IndexedSplit, Split


class Features(NamedTuple):
    """The features of a tf.train.Example that make up an example.

    Attributes:
        image_key: the feature with the image file's bytes.
        targets: the fields of the target that are scalars to the features that hold them, and their types.
        sequences: the same of those that are [n, *shape], with n of each example's own, and the shape.
    """

    image_key: str
    targets: Mapping[str, tuple[str, tf.DType]]
    sequences: Mapping[str, tuple[str, tf.DType, Sequence[int]]] = {}


def open_split(file_format: str, parts: Sequence[ShardPart], features: Features) -> Split:
    """Opens shards whose records are serialised tf.train.Examples.

    Args:
        file_format: one of `manifest.FILE_FORMATS`.
        parts: the shards, or parts of them.
        features: of a record.

    Raises:
        UserError: a shard is missing or, in ArrayRecord, does not hold as many records as it should.
    """
    image_key, targets, sequences = features
    parsed = {key: tf.io.FixedLenFeature([], dtype) for key, dtype in ((image_key, tf.string), *targets.values())}
    for key, dtype, shape in sequences.values():
        parsed[key] = tf.io.FixedLenSequenceFeature(shape, dtype, allow_missing=True)
    keys = {name: key for name, (key, *_) in (targets | sequences).items()}

    def read(element: Element) -> tuple[tf.Tensor, Target]:
        example = tf.io.parse_single_example(element['record'], parsed)
        return example[image_key], {name: example[key] for name, key in keys.items()}

    describe = _describe(parts)
    if file_format == 'tfrecord':
        return RecordStream(parts, read, describe)
    records = ArrayRecords([part.path for part in parts], [part.length for part in parts])
    starts = np.cumsum([0] + [part.length for part in parts])
    rows = [start + part.skip + np.arange(part.take) for start, part in zip(starts, parts, strict=False)]
    rows = np.concatenate(rows)  # of each example, among all records

    def fetch(index: np.ndarray) -> dict[str, np.ndarray]:
        return {'record': records.fetch(rows[index])}

    return IndexedSplit(len(rows), fetch, {'record': tf.string}, read, describe)


def _describe(parts: Sequence[ShardPart]) -> Callable[[Element], str]:
    ends = np.cumsum([part.take for part in parts])

    def describe(element: Element) -> str:
        index = int(element['index'])
        number = int(np.searchsorted(ends, index, side='right'))
        part = parts[number]
        return f'{part.path} record {index - ends[number] + part.take + part.skip} (example {index})'

    return describe
