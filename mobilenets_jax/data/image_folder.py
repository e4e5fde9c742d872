"""A folder of images, one sub-folder for each class: DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg."""

import os

import numpy as np
import tensorflow as tf

from mobilenets_jax.data.folders import find_classes, find_splits, list_images
from mobilenets_jax.data.host_pipeline import HostDataset
from mobilenets_jax.data.options import ImageOptions, Options, Reading
from mobilenets_jax.data.splits import IndexedSplit


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
