"""A folder of images, one sub-folder for each class: DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg."""

import os

import numpy as np
import tensorflow as tf

from mobilenets_jax.data.folder_index import join, list_files, list_folders
from mobilenets_jax.data.host_pipeline import HostDataset
from mobilenets_jax.data.options import ImageOptions, Options, Reading
from mobilenets_jax.data.splits import IndexedSplit
from mobilenets_jax.errors import UserError, check

TRAIN_SPLIT = 'train'
EVAL_SPLITS = ('val', 'validation', 'test')  # The first one that is there is the default.


def create(
    directory: str, eval_split: str, options: Options, image_options: ImageOptions, reading: Reading
) -> HostDataset:
    """Lists the images and checks that they form a data set.

    With DIR/train there are two splits, and labels count the sorted names of its classes. Without it the classes of
    the evaluation split itself are counted; where no folder has an evaluation split's name they stand in DIR.

    Raises:
        UserError: the directory, a split, a class or an image is missing, or the classes do not fit.
    """
    train_directory, eval_directory = find_splits(directory, eval_split)
    class_names = find_classes(directory, train_directory or eval_directory, eval_directory)
    return HostDataset(
        'image_folder',
        tuple(class_names),
        train=open_split(train_directory, class_names) if train_directory else None,
        evaluation=open_split(eval_directory, class_names),
        options=options,
        image_options=image_options,
        reading=reading,
    )


def find_splits(directory: str, eval_split: str) -> tuple[str | None, str]:
    """The folders of the training split, None if there is none, and of the evaluation split."""
    check(bool(directory), 'data.dir', directory, 'must name the folder of images')
    folders = list_folders(directory)
    train_directory = join(directory, TRAIN_SPLIT) if TRAIN_SPLIT in folders else None
    if eval_split:
        check(eval_split in folders, 'data.eval_split', eval_split, f'is not a folder of {directory}')
        return train_directory, join(directory, eval_split)
    for name in EVAL_SPLITS:
        if name in folders:
            return train_directory, join(directory, name)
    if train_directory:
        raise UserError(f'data.dir={directory!r} has no evaluation split. Known: {", ".join(EVAL_SPLITS)}.')
    return None, directory


def find_classes(directory: str, labelled_directory: str, eval_directory: str) -> list[str]:
    """The classes of `labelled_directory` in the order of their labels; `eval_directory` may have no others."""
    class_names = list_folders(labelled_directory)
    check(len(class_names) > 1, 'data.dir', directory, f'must have two classes or more, but has {len(class_names)}')
    unknown = sorted(set(list_folders(eval_directory)) - set(class_names))
    if unknown:
        raise UserError(
            f'data.dir={directory!r}: {eval_directory} has class {unknown[0]!r}, which {TRAIN_SPLIT} lacks.'
        )
    return class_names


def list_images(directory: str, class_names: list[str]) -> tuple[list[str], list[int]]:
    """Paths and labels of the images, sorted by class and name; a class may be missing but not all images."""
    files = list_files(directory, class_names)
    check(bool(files), 'data.dir', directory, 'has no images in folders of the known classes')
    paths = [join(join(directory, name), file) for name, names in files.items() for file in names]
    label_of = {name: label for label, name in enumerate(class_names)}
    labels = [label_of[name] for name, names in files.items() for _ in names]
    return paths, labels


def open_split(directory: str, class_names: list[str]) -> IndexedSplit:
    """The images of `directory`/CLASS, in the order of `list_images`."""
    paths, labels = list_images(directory, class_names)
    paths, labels = np.array([os.fsencode(path) for path in paths], object), np.array(labels, np.int32)
    return IndexedSplit(
        num_examples=len(paths),
        fetch=lambda index: {'path': paths[index], 'label': labels[index]},
        signature={'path': tf.string, 'label': tf.int32},
        read=lambda element: (tf.io.read_file(element['path']), element['label']),
        describe=lambda element: os.fsdecode(element['path'].numpy()),
    )
