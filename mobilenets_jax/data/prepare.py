"""Turns an image folder into sharded records with a manifest of counts and hashes.

Files are copied byte for byte, in a random order that is the same each time, so that a shard is a sample of the whole.
Every file is decoded once, so that a broken one is named now rather than in the middle of a run.
"""

import os
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath

from mobilenets_jax.buckets import is_bucket
from mobilenets_jax.data import image_files, order, split_names
from mobilenets_jax.data.folders import find_splits, read_splits, report_others
from mobilenets_jax.data.host_pipeline import reason
from mobilenets_jax.data.manifest import FILE_FORMATS, MANIFEST_FILE, Manifest, Shard
from mobilenets_jax.data.preprocessing import decode
from mobilenets_jax.data.records import IMAGE_KEY, LABEL_KEY
from mobilenets_jax.errors import UserError, check, check_choice
from mobilenets_jax.hashes import sha256

ORDER_SEED = 0
ARRAY_RECORD_OPTIONS = 'group_size:1,uncompressed'  # a record can be read by itself; images do not compress


def prepare(source: str, directory: str, *, file_format: str, num_shards: int, report: Callable[[str], None]) -> None:
    """Writes the splits of the image folder `source` as records under `directory`; the manifest comes last.

    Args:
        source: has one or more splits, as `folders` says; the names of their folders are those of the splits.
        directory: a new data set's folder.
        file_format: one of `manifest.FILE_FORMATS`.
        num_shards: of each split; a split of fewer examples has one a shard.
        report: is called with a line about each split.

    Raises:
        UserError: a value is wrong, or an image cannot be read; the message names it.
    """
    check_choice('--format', file_format, FILE_FORMATS)
    check(num_shards > 0, '--shards', num_shards, 'must be positive')
    target = epath.Path(directory)
    check(not (target / MANIFEST_FILE).exists(), 'DST', directory, 'is a prepared data set already')
    splits = split_names.in_order(find_splits(source), source)
    check(bool(splits), 'SRC', source, f'has no split with folders of classes. Known: {", ".join(split_names.NAMES)}')
    report_others(source, splits)
    class_names, files = read_splits(source, splits)
    target.mkdir(parents=True, exist_ok=True)

    written, turned = {}, []
    for split, (paths, labels, _) in files.items():
        examples = _examples(*_shuffled(paths, labels), turned)
        shards = []
        for number, length in enumerate(_shard_lengths(len(paths), num_shards)):
            name = f'{split}-{number:05}-of-{min(num_shards, len(paths)):05}.{file_format}'
            shards.append(_write_shard(target / name, file_format, examples, length))
        report(f'{split}: {len(paths)} images of {len(class_names)} classes in {len(shards)} shards')
        written[split] = shards
    image_files.report_orientations(len(turned))
    Manifest(file_format, class_names, written).write(directory)


def _shuffled(paths: list[str], labels: list[int]) -> tuple[list[str], list[int]]:
    permutation = order.permutation(ORDER_SEED, 0, len(paths))
    return [paths[i] for i in permutation], [labels[i] for i in permutation]


def _shard_lengths(num_examples: int, num_shards: int) -> list[int]:
    """As equal as they can be."""
    return [len(part) for part in np.array_split(np.arange(num_examples), min(num_shards, num_examples))]


def _examples(paths: list[str], labels: list[int], turned: list[str]) -> Iterator[bytes]:
    """The serialised records; adds to `turned` the files with an EXIF orientation.

    Raises:
        UserError: a file is no image.
    """

    def read(path, label):
        encoded = tf.io.read_file(path)
        return encoded, label, tf.size(decode(encoded))  # A result that is not used is not computed.

    names = [os.fsencode(path) for path in paths]
    files = tf.data.Dataset.from_tensor_slices((names, labels)).map(read, tf.data.AUTOTUNE, deterministic=True)
    iterator = files.as_numpy_iterator()
    for path in paths:
        try:
            encoded, label, _ = next(iterator)
        except tf.errors.OpError as error:
            raise UserError(f'{path} cannot be read: {reason(error)}') from error
        features = {
            IMAGE_KEY: tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
            LABEL_KEY: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        }
        if image_files.has_orientation(encoded):
            turned.append(path)
        yield tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _write_shard(path: epath.Path, file_format: str, examples: Iterator[bytes], length: int) -> Shard:
    """Writes the next `length` examples; returns their entry in the manifest."""
    if file_format == 'tfrecord':
        writer = tf.io.TFRecordWriter(str(path))
    else:
        check(not is_bucket(path), 'DST', str(path.parent), 'is no local disk, to which ArrayRecord is written')
        writer = ArrayRecordWriter(str(path), ARRAY_RECORD_OPTIONS)
    for _ in range(length):
        writer.write(next(examples))
    writer.close()
    return Shard(path.name, length, path.stat().length, sha256(path))
