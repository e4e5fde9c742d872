"""A folder of images, one sub-folder for each class: DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg."""

import os

import numpy as np
import tensorflow as tf

from mobilenets_jax.data.classification_format import ClassificationFormat
from mobilenets_jax.data.folders import read_image_folder
from mobilenets_jax.data.host_pipeline import HostDataset
from mobilenets_jax.data.options import DataOptions, ImageOptions, ReadOptions
from mobilenets_jax.data.splits import IndexedSplit


def create(
    directory: str,
    train_split: str,
    eval_split: str,
    options: DataOptions,
    image_options: ImageOptions,
    read_options: ReadOptions,
) -> HostDataset:
    """Lists the images and checks that they form a data set; arguments and errors as in `read_image_folder`."""
    folder = read_image_folder(directory, train_split, eval_split)
    dataset = HostDataset(
        'image_folder',
        tuple(folder.class_names),
        train=open_split(folder.train.paths, folder.train.labels) if folder.train else None,
        evaluation=open_split(folder.evaluation.paths, folder.evaluation.labels),
        example_format=ClassificationFormat(len(folder.class_names), image_options),
        options=options,
        read_options=read_options,
        fingerprints=folder.fingerprints,
    )
    dataset.eval_names = folder.evaluation[0]
    return dataset


def open_split(paths: list[str], labels: list[int]) -> IndexedSplit:
    """The images of `paths`, in that order."""
    paths, labels = np.array([os.fsencode(path) for path in paths], object), np.array(labels, np.int32)
    return IndexedSplit(
        num_examples=len(paths),
        fetch=lambda index: {'path': paths[index], 'label': labels[index]},
        signature={'path': tf.string, 'label': tf.int32},
        read=lambda element: (tf.io.read_file(element['path']), {'label': element['label']}),
        describe=lambda element: os.fsdecode(element['path'].numpy()),
    )
