"""Any image classification set that TFDS has prepared, in ArrayRecord (random access) or TFRecord (a stream)."""

import tensorflow_datasets as tfds

from mobilenets_jax.data import shards
from mobilenets_jax.data.host_pipeline import HostDataset
from mobilenets_jax.data.options import ImageOptions, Options, Reading
from mobilenets_jax.data.splits import Split
from mobilenets_jax.errors import UserError, check_choice

TRAIN_SPLIT = 'train'
EVAL_SPLITS = ('validation', 'test')  # The first one that is there is the default.


def create(
    name: str,
    directory: str,
    train_split: str,
    eval_split: str,
    options: Options,
    image_options: ImageOptions,
    reading: Reading,
) -> HostDataset:
    """Opens the prepared data set `name`, e.g. 'imagenet2012', under the TFDS data directory ('' = TFDS's default).

    Only files that are there already are read: nothing is downloaded or prepared.

    Raises:
        UserError: the set is not prepared, is no image classification set, or lacks the split.
    """
    builder = open_builder(name, directory)
    image_key, label_key = classification_keys(name, builder.info)
    splits = builder.info.splits
    eval_split = eval_split or next((split for split in EVAL_SPLITS if split in splits), '')
    check_choice('data.eval_split', eval_split, splits)
    return HostDataset(
        f'tfds:{name}',
        tuple(builder.info.features[label_key].names),
        train=open_split(builder, TRAIN_SPLIT, image_key, label_key) if TRAIN_SPLIT in splits else None,
        evaluation=open_split(builder, eval_split, image_key, label_key),
        options=options,
        image_options=image_options,
        reading=reading,
    )


def open_builder(name: str, directory: str) -> tfds.core.DatasetBuilder:
    """The prepared set's builder, made from its files and not from its code, which might go on line."""
    directory = directory or tfds.core.constants.DATA_DIR
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=directory)
    except tfds.core.DatasetNotFoundError as error:
        command = f'tfds build {name} --data_dir={directory} --file_format=array_record'
        raise UserError(f"data.name='tfds:{name}' is not prepared in {directory}. To prepare it: {command}") from error


def classification_keys(name: str, info: tfds.core.DatasetInfo) -> tuple[str, str]:
    """The names of the image and of the label feature."""
    image_key, label_key = (info.supervised_keys or (None, None))[:2]
    features = info.features
    is_classification = (
        image_key in features
        and isinstance(features[image_key], tfds.features.Image)
        and isinstance(features[label_key], tfds.features.ClassLabel)
    )
    if not is_classification:
        raise UserError(f"data.name='tfds:{name}' is no image classification set: it has {', '.join(features)}.")
    return image_key, label_key


def open_split(builder: tfds.core.DatasetBuilder, split: str, image_key: str, label_key: str) -> Split:
    """One split, in whichever way its file format is read."""
    info = builder.info.splits[split]
    file_format = builder.info.file_format.value
    check_choice('file format of data.name', file_format, shards.FILE_FORMATS)
    return shards.open_split(
        file_format, [str(path) for path in info.filepaths], info.shard_lengths, image_key, label_key
    )
