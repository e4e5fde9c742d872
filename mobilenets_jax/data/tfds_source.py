"""Any image classification set and the Cityscapes that TFDS has prepared, in ArrayRecord or TFRecord (a stream)."""

import os
import sys

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mobilenets_jax.data import fingerprint, shards
from mobilenets_jax.data.class_sets import MaskOptions
from mobilenets_jax.data.classification_format import ClassificationFormat
from mobilenets_jax.data.example_format import ExampleFormat
from mobilenets_jax.data.host_pipeline import HostDataset
from mobilenets_jax.data.manifest import FILE_FORMATS
from mobilenets_jax.data.options import DataOptions, ImageOptions, ReadOptions
from mobilenets_jax.data.record_stream import ShardPart
from mobilenets_jax.data.segmentation_format import SegmentationFormat
from mobilenets_jax.data.segmentation_options import SegmentationOptions
from mobilenets_jax.data.shapes_only import CITYSCAPES_SIZE
from mobilenets_jax.data.shards import Features
from mobilenets_jax.data.splits import Split
from mobilenets_jax.errors import UserError, check, check_choice

TRAIN_SPLIT = 'train'
EVAL_SPLITS = ('validation', 'test')  # The first one that is there is the default.
CITYSCAPES_FEATURES = ('image_left', 'segmentation_label')  # image, mask
IMAGE_DTYPES = (np.uint8, np.uint16)  # TFDS stores images of real numbers as what only it can read.


def create(
    name: str,
    directory: str,
    train_split: str,
    eval_split: str,
    options: DataOptions,
    image_options: ImageOptions,
    read_options: ReadOptions,
) -> HostDataset:
    """Opens the prepared data set `name`, e.g. 'imagenet2012', under the TFDS data directory ('' = TFDS's default).

    Only files that are there already are read: nothing is downloaded or prepared. Splits may be parts of splits, such
    as 'train[:80%]', in TFDS's own notation.

    Raises:
        UserError: the set is not prepared, is no image classification set, or lacks the split.
    """
    builder = open_builder(name, directory)
    image_key, label_key = classification_keys(name, builder.info)
    class_names = tuple(builder.info.features[label_key].names)
    example_format = ClassificationFormat(len(class_names), image_options)
    features = Features(image_key, {'label': (label_key, tf.int64)})
    return open_set(
        name, builder, (train_split, eval_split), class_names, features, example_format, options, read_options
    )


def create_cityscapes(
    name: str,
    directory: str,
    train_split: str,
    eval_split: str,
    options: SegmentationOptions,
    mask_options: MaskOptions,
    read_options: ReadOptions,
) -> HostDataset:
    """Opens TFDS's Cityscapes, which has the labelIds files, as `create` does; masks are checked when they are read.

    Raises:
        UserError: the set is not prepared, has no masks, or lacks the split.
    """
    builder = open_builder(name, directory)
    for key in CITYSCAPES_FEATURES:
        check(key in builder.info.features, 'data.name', f'tfds:{name}', f'has no feature {key!r}')
    image_key, mask_key = CITYSCAPES_FEATURES
    classes = mask_options.class_set('cityscapes')
    example_format = SegmentationFormat(classes, options, options.eval_size or CITYSCAPES_SIZE)
    features = Features(image_key, {'segmentation': (mask_key, tf.string)})
    splits = train_split, eval_split
    dataset = open_set(name, builder, splits, classes.names, features, example_format, options.common(), read_options)
    dataset.palette = classes.palette
    return dataset


def open_set(
    name: str,
    builder: tfds.core.DatasetBuilder,
    splits: tuple[str, str],
    class_names: tuple[str, ...],
    features: Features,
    example_format: ExampleFormat,
    options: DataOptions,
    read_options: ReadOptions,
) -> HostDataset:
    """The data set of a training and an evaluation split, '' for the default."""
    known = builder.info.splits
    train_split = splits[0] or (TRAIN_SPLIT if TRAIN_SPLIT in known else '')
    eval_split = splits[1] or next((split for split in EVAL_SPLITS if split in known), '')
    if not eval_split:
        raise UserError(
            f"data.name='tfds:{name}' has no split {' or '.join(EVAL_SPLITS)}, only {', '.join(known)}: "
            "set e.g. data.train_split='train[:80%]' and data.eval_split='train[80%:]'."
        )
    train = find_parts(known, 'data.train_split', train_split) if train_split else []
    evaluation = find_parts(known, 'data.eval_split', eval_split)
    report_overlap(train, evaluation, train_split, eval_split)

    def open_split(parts: list[ShardPart]) -> Split:
        file_format = builder.info.file_format.value
        check_choice('file format of data.name', file_format, FILE_FORMATS)
        return shards.open_split(file_format, parts, features)

    return HostDataset(
        f'tfds:{name}',
        class_names,
        train=open_split(train) if train else None,
        evaluation=open_split(evaluation),
        example_format=example_format,
        options=options,
        read_options=read_options,
        fingerprints={
            split: fingerprint_of(parts, builder.info.full_name)
            for split, parts in ((fingerprint.TRAIN, train), (fingerprint.EVALUATION, evaluation))
            if parts
        },
    )


def fingerprint_of(parts: list[ShardPart], full_name: str) -> fingerprint.Fingerprint:
    """The fingerprint of parts of shards of a set with a version, such as 'mnist/3.0.1'."""
    return fingerprint.condensed(
        [
            fingerprint.of_facts(f'shard {os.path.basename(part.path)}', part.take, full_name, part.length, part.skip)
            for part in parts
        ]
    )


def open_builder(name: str, directory: str) -> tfds.core.DatasetBuilder:
    """The prepared set's builder, made from its files and not from its code, which might use the network."""
    directory = directory or tfds.core.constants.DATA_DIR
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=directory)
    except tfds.core.DatasetNotFoundError as error:
        command = f'tfds build {name} --data_dir={directory} --file_format=array_record'
        raise UserError(f"data.name='tfds:{name}' is not prepared in {directory}. To prepare it: {command}") from error
    except Exception as error:  # of a damaged description TFDS, protobuf and json raise what they like
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"data.name='tfds:{name}' cannot be read from {directory}: {reason}.") from error


def classification_keys(name: str, info: tfds.core.DatasetInfo) -> tuple[str, str]:
    """The names of the image and of the label feature: the supervised keys, or the only ones that there are."""
    features = dict(sorted(info.features.items()))
    images = [key for key, feature in features.items() if _is_image(feature)]
    labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    keys = tuple(info.supervised_keys or ())[:2]
    if len(keys) == 2 and keys[0] in images and keys[1] in labels:
        return keys
    if not keys and len(images) == len(labels) == 1:
        return images[0], labels[0]
    kinds = ', '.join(f'{key} ({type(feature).__name__})' for key, feature in features.items())
    raise UserError(f"data.name='tfds:{name}' is no set of images with one label each: it has {kinds}.")


def _is_image(feature: tfds.features.FeatureConnector) -> bool:
    return isinstance(feature, tfds.features.Image) and feature.np_dtype in IMAGE_DTYPES


def find_parts(known: tfds.core.splits.SplitDict, field: str, split: str) -> list[ShardPart]:
    """The shards of a split, or those parts of them that it takes, such as 'train[:80%]'."""
    if '[' not in split and '+' not in split:
        check_choice(field, split, known)
    try:
        files = known[split].file_instructions
    except Exception as error:  # TFDS raises KeyError, ValueError, AssertionError and more.
        reason = ' '.join(str(error).split())
        raise UserError(f'{field}={split!r} is no part of {", ".join(known)}: {reason}') from error
    parts = [ShardPart(str(file.filename), file.examples_in_shard, file.skip, file.take) for file in files if file.take]
    check(bool(parts), field, split, 'has no examples')
    return parts


def report_overlap(train: list[ShardPart], evaluation: list[ShardPart], train_split: str, eval_split: str) -> None:
    """Says how many examples are trained and evaluated on, if there are any."""
    common = sum(
        max(0, min(a.skip + a.take, b.skip + b.take) - max(a.skip, b.skip))
        for a in train
        for b in evaluation
        if a.path == b.path
    )
    if common:
        print(
            f'data.eval_split={eval_split!r} and data.train_split={train_split!r} have {common} examples in common',
            file=sys.stderr,
        )
