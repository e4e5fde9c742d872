"""Image folders prepared as sharded records by `python -m mobilenets_jax prepare`, see `prepare`."""

from mobilenets_jax.data import shards
from mobilenets_jax.data.folder_index import join
from mobilenets_jax.data.folders import EVAL_SPLITS, TRAIN_SPLIT
from mobilenets_jax.data.host_pipeline import HostDataset
from mobilenets_jax.data.manifest import Manifest
from mobilenets_jax.data.options import ImageOptions, Options, Reading
from mobilenets_jax.data.splits import Split
from mobilenets_jax.errors import check_choice

# The features of a record, a serialised tf.train.Example.
IMAGE_KEY, LABEL_KEY = 'image', 'label'  # the image file's bytes, an integer


def create(
    directory: str, eval_split: str, options: Options, image_options: ImageOptions, reading: Reading
) -> HostDataset:
    """Opens the records under `directory`, whose shards must have the sizes and counts of the manifest.

    Raises:
        UserError: the manifest, the split or a shard is missing, or a shard is not what was written.
    """
    manifest = Manifest.read(directory)
    manifest.check_sizes(directory)
    eval_split = eval_split or next((split for split in EVAL_SPLITS if split in manifest.splits), '')
    check_choice('data.eval_split', eval_split, manifest.splits)
    return HostDataset(
        'records',
        tuple(manifest.class_names),
        train=_open_split(directory, manifest, TRAIN_SPLIT) if TRAIN_SPLIT in manifest.splits else None,
        evaluation=_open_split(directory, manifest, eval_split),
        options=options,
        image_options=image_options,
        reading=reading,
    )


def _open_split(directory: str, manifest: Manifest, split: str) -> Split:
    files = manifest.splits[split]
    return shards.open_split(
        manifest.file_format,
        [join(directory, shard.file) for shard in files],
        [shard.num_examples for shard in files],
        IMAGE_KEY,
        LABEL_KEY,
    )
