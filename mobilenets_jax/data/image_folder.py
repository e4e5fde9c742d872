"""A folder of images, one sub-folder for each class: DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg."""

import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mobilenets_jax.data.dataset import Options
from mobilenets_jax.data.host_pipeline import HostDataset, IndexedSplit
from mobilenets_jax.data.preprocessing import ImageOptions
from mobilenets_jax.errors import UserError, check

TRAIN_SPLIT = 'train'
EVAL_SPLITS = ('val', 'validation', 'test')  # The first one that is there is the default.
SUFFIXES = ('.jpg', '.jpeg', '.png')


def create(
    directory: str, eval_split: str, options: Options, image_options: ImageOptions, num_threads: int
) -> HostDataset:
    """Lists the images and checks that they form a data set.

    With DIR/train there are two splits, and labels count the sorted names of its classes. Without it the classes of
    the evaluation split itself are counted; where no folder has an evaluation split's name they stand in DIR.

    Raises:
        UserError: the directory, a split, a class or an image is missing, or the classes do not fit.
    """
    check(bool(directory), 'data.dir', directory, 'must name the folder of images')
    train_directory, eval_directory = find_splits(directory, eval_split)
    class_names = _list(train_directory or eval_directory, os.DirEntry.is_dir)
    check(len(class_names) > 1, 'data.dir', directory, f'must have two classes or more, but has {len(class_names)}')
    evaluated = _list(eval_directory, os.DirEntry.is_dir)
    unknown = sorted(set(evaluated) - set(class_names))
    if unknown:
        raise UserError(
            f'data.dir={directory!r}: {eval_directory} has class {unknown[0]!r}, which {TRAIN_SPLIT} lacks.'
        )
    return HostDataset(
        'image_folder',
        tuple(class_names),
        train=list_images(train_directory, class_names) if train_directory else None,
        evaluation=list_images(eval_directory, class_names),
        options=options,
        image_options=image_options,
        num_threads=num_threads,
    )


def find_splits(directory: str, eval_split: str) -> tuple[str | None, str]:
    """The folders of the training split, None if there is none, and of the evaluation split."""
    folders = _list(directory, os.DirEntry.is_dir)
    train_directory = os.path.join(directory, TRAIN_SPLIT) if TRAIN_SPLIT in folders else None
    if eval_split:
        check(eval_split in folders, 'data.eval_split', eval_split, f'is not a folder of {directory}')
        return train_directory, os.path.join(directory, eval_split)
    for name in EVAL_SPLITS:
        if name in folders:
            return train_directory, os.path.join(directory, name)
    if train_directory:
        raise UserError(f'data.dir={directory!r} has no evaluation split. Known: {", ".join(EVAL_SPLITS)}.')
    return None, directory


def list_images(directory: str, class_names: list[str]) -> IndexedSplit:
    """The images of `directory`/CLASS, sorted by class and name; a class may be missing but not all images."""
    present = set(_list(directory, os.DirEntry.is_dir))
    paths, labels = [], []
    for label, class_name in enumerate(class_names):
        if class_name not in present:
            continue
        folder = os.path.join(directory, class_name)
        names = _list(folder, lambda entry: entry.name.lower().endswith(SUFFIXES))
        if not names:
            raise UserError(f'data.dir: {folder} has no images ({", ".join(SUFFIXES)}).')
        paths += [os.path.join(folder, name) for name in names]
        labels += [label] * len(names)
    check(bool(paths), 'data.dir', directory, 'has no images in folders of the known classes')
    paths, labels = np.array([os.fsencode(path) for path in paths], object), np.array(labels, np.int32)
    return IndexedSplit(
        num_examples=len(paths),
        fetch=lambda index: {'path': paths[index], 'label': labels[index]},
        signature={'path': tf.string, 'label': tf.int32},
        read=lambda element: (tf.io.read_file(element['path']), element['label']),
        describe=lambda element: os.fsdecode(element['path'].numpy()),
    )


def _list(directory: str, keep: Callable[[os.DirEntry], bool]) -> list[str]:
    """The sorted names of the entries of `directory` that `keep` keeps, hidden ones apart."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith('.') and keep(entry))
    except OSError as error:
        raise UserError(f'data.dir: cannot list {directory}: {error.strerror}.') from error
