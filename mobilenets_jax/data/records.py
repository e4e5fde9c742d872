"""Image folders prepared as sharded records by `python -m mobilenets_jax prepare`, see `prepare`."""

import tensorflow as tf

from mobilenets_jax.data import fingerprint, shards, split_names
from mobilenets_jax.data.classification_format import ClassificationFormat
from mobilenets_jax.data.folder_index import join
from mobilenets_jax.data.host_pipeline import HostDataset
from mobilenets_jax.data.manifest import Manifest
from mobilenets_jax.data.options import DataOptions, ImageOptions, ReadOptions
from mobilenets_jax.data.record_stream import ShardPart
from mobilenets_jax.data.splits import Split
from mobilenets_jax.errors import UserError

# The features of a record, a serialised tf.train.Example.
IMAGE_KEY, LABEL_KEY = 'image', 'label'  # the image file's bytes, an integer


def create(
    directory: str,
    train_split: str,
    eval_split: str,
    options: DataOptions,
    image_options: ImageOptions,
    read_options: ReadOptions,
) -> HostDataset:
    """Opens the records under `directory`, whose shards must have the sizes and counts of the manifest.

    The splits are chosen as in `read_image_folder`.

    Raises:
        UserError: the manifest, the split or a shard is missing, or a shard is not what was written.
    """
    manifest = Manifest.read(directory)
    manifest.check_sizes(directory)
    splits = list(manifest.splits)
    train, evaluation = split_names.choose(splits, splits, directory, train_split, eval_split)
    if evaluation is None:
        raise UserError(f'data.eval_split must name a split of {directory} to evaluate on. Known: {", ".join(splits)}.')
    return HostDataset(
        'records',
        tuple(manifest.class_names),
        train=_open_split(directory, manifest, train) if train else None,
        evaluation=_open_split(directory, manifest, evaluation),
        example_format=ClassificationFormat(len(manifest.class_names), image_options),
        options=options,
        read_options=read_options,
        fingerprints={
            name: manifest.fingerprint(split)
            for name, split in ((fingerprint.TRAIN, train), (fingerprint.EVALUATION, evaluation))
            if split
        },
    )


def _open_split(directory: str, manifest: Manifest, split: str) -> Split:
    files = manifest.splits[split]
    return shards.open_split(
        manifest.file_format,
        [ShardPart(join(directory, shard.file), shard.num_examples) for shard in files],
        shards.Features(IMAGE_KEY, {'label': (LABEL_KEY, tf.int64)}),
    )
