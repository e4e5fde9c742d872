"""Images with boxes as files: COCO's, Pascal VOC's, YOLO's; see `coco_files`, `voc_files` and `yolo_files`.

All boxes are read and checked when a set is opened, on every host. What is left out is said in a line, with a count.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from mobilenets_jax.data import box_checks, coco_files, fingerprint, split_names, voc_files, yolo_files
from mobilenets_jax.data.annotations import Annotations
from mobilenets_jax.data.box_checks import BoxTable, RawImage
from mobilenets_jax.data.box_classes import BoxOptions
from mobilenets_jax.data.detection_format import DetectionFormat
from mobilenets_jax.data.detection_options import CocoIds, CocoPlaces, DetectionOptions, DifficultBoxes, EmptyImages
from mobilenets_jax.data.example_format import Target
from mobilenets_jax.data.host_pipeline import HostDataset
from mobilenets_jax.data.options import ReadOptions
from mobilenets_jax.data.splits import Element, IndexedSplit
from mobilenets_jax.errors import UserError, check, check_choice


@dataclasses.dataclass(frozen=True)
class Source:
    """One of the formats 'coco', 'voc' and 'yolo': the functions that read its files.

    Attributes:
        name: of the source.
        directory: of the data set, local or gs://.
        chosen: the names of the classes that are asked for; () for the source's own.
        coco_ids: as of `CocoIds`.
        coco_places: as of the same.
    """

    name: str
    directory: str
    chosen: tuple[str, ...]
    coco_ids: CocoIds
    coco_places: CocoPlaces

    def list_splits(self) -> list[str]:
        """The names of all splits."""
        if self.name == 'coco':
            return coco_files.list_splits(self.directory, self.coco_places)
        return (voc_files if self.name == 'voc' else yolo_files).list_splits(self.directory)

    def read(self, splits: Sequence[str]) -> tuple[dict[str, list[RawImage]], tuple[str, ...]]:
        """The images of each split, and the names of the classes by label, those of the first split."""
        if self.name == 'coco':
            images, categories = coco_files.read_splits(self.directory, splits, self.coco_places)
            return images, self.chosen or coco_files.class_names(categories, self.coco_ids.coco_ids)
        if self.name == 'voc':
            images = {split: voc_files.read_split(self.directory, split) for split in splits}
            return images, self.chosen or voc_files.class_names(images[splits[0]], f'{self.directory} {splits[0]}')
        names = yolo_files.read_names(self.directory) or self.chosen
        if not names:
            raise UserError(
                f'data.class_names must say the names of the classes by their numbers: {self.directory} has neither '
                f'{yolo_files.DESCRIPTION} nor {yolo_files.NAMES}.'
            )
        return yolo_files.read_splits(self.directory, splits, names), self.chosen or names


def create(
    name: str,
    directory: str,
    train_split: str,
    eval_split: str,
    options: DetectionOptions,
    box_options: BoxOptions,
    read_options: ReadOptions,
    empty_images: EmptyImages,
    difficult_boxes: DifficultBoxes,
    coco_ids: CocoIds,
    coco_places: CocoPlaces,
) -> HostDataset:
    """Reads all boxes of a data set, and checks them.

    Args:
        name: 'coco', 'voc' or 'yolo'.
        directory: local or gs://.
        train_split: the split to train on, or several, 'train+val'; '' for the one with a training split's name.
        eval_split: the split to evaluate on; '' for the validation split or else the test split, or the only one.
        options: how images become batches.
        box_options: the classes.
        read_options: how files are read.
        empty_images: what becomes of training images without boxes.
        difficult_boxes: what becomes of difficult boxes.
        coco_ids: of COCO's classes.
        coco_places: of COCO's files.

    Raises:
        UserError: a folder, a split or a file is missing or of another form, no box of a split can be used, or an image
            has too many.
    """
    check(bool(directory), 'data.dir', directory, 'must name the folder of images and boxes')
    source = Source(name, directory, box_options.chosen, coco_ids, coco_places)
    known = source.list_splits()
    train, evaluation = _splits(source, known, train_split, eval_split)
    splits = list(dict.fromkeys(split for split in (train, evaluation) if split is not None))
    parts = list(dict.fromkeys(name for split in splits for name in split_names.parts(split, known)))
    found, class_names = source.read(parts)
    raw = {split: split_names.joined(split, found) for split in splits}
    checked = {
        split: box_checks.check_images(images, class_names, f'{directory} {split}') for split, images in raw.items()
    }
    table = None
    if train is not None:
        table = box_checks.trainable_boxes(
            checked[train],
            f'{directory} {train}',
            keep_empty=empty_images.keep_empty,
            difficult=difficult_boxes.train_difficult,
        )
    annotations = checked[evaluation]
    measured = _sizes(annotations)
    max_boxes = box_checks.most_boxes(table, options.max_boxes) if table else options.max_boxes or 1
    dataset = HostDataset(
        name,
        class_names,
        train=table and open_split(table),
        evaluation=open_split(measured),
        example_format=DetectionFormat(options, max_boxes),
        options=options.common(),
        read_options=read_options,
        fingerprints=_fingerprints(directory, table, measured, annotations),
    )
    dataset.annotations = annotations
    dataset.eval_names = [image.name for image in annotations]
    return dataset


def open_split(table: BoxTable) -> IndexedSplit:
    """The images of a table, in its order, with their boxes."""
    paths = np.array([os.fsencode(path) for path in table.paths], object)
    starts, boxes, labels, sizes = map(tf.constant, (table.starts, table.boxes, table.labels, table.sizes))

    def read(element: Element) -> tuple[tf.Tensor, Target]:
        index = element['index']
        rows = slice(starts[index], starts[index + 1])
        return tf.io.read_file(element['image']), {'boxes': boxes[rows], 'labels': labels[rows], 'size': sizes[index]}

    return IndexedSplit(
        num_examples=len(paths),
        fetch=lambda index: {'image': paths[index]},
        signature={'image': tf.string},
        read=read,
        describe=lambda element: os.fsdecode(element['image'].numpy()),
    )


def _splits(source: Source, known: list[str], train_split: str, eval_split: str) -> tuple[str | None, str]:
    """The names of the training split, None if there is none, and of the evaluation split."""
    named = [split for split in known if split_names.is_split_name(split.rstrip('0123456789'))]
    if len(known) == 1 and not (train_split or eval_split):
        return None, known[0]
    train, evaluation = split_names.choose(
        named, known, source.directory, train_split, eval_split, with_years=source.name == 'coco', may_join=True
    )
    if evaluation is None:
        check_choice('data.eval_split', eval_split, known)
    return train, evaluation


def _sizes(annotations: Sequence[Annotations]) -> BoxTable:
    """A table without boxes: they are no part of the batches that are evaluated."""
    return BoxTable(
        paths=[image.name for image in annotations],
        sizes=np.array([(image.height, image.width) for image in annotations], np.int32),
        starts=np.zeros(len(annotations) + 1, np.int64),
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int32),
    )


def _fingerprints(
    directory: str, table: BoxTable | None, measured: BoxTable, annotations: Sequence[Annotations]
) -> Mapping[str, fingerprint.Fingerprint]:
    objects = [np.concatenate([getattr(image, field) for image in annotations]) for field in ('boxes', 'labels')]
    counts = np.array([len(image.labels) for image in annotations])
    paths, sizes = measured.paths, measured.sizes
    found = {fingerprint.EVALUATION: box_checks.fingerprint_of(directory, paths, sizes, counts, *objects)}
    if table:
        found[fingerprint.TRAIN] = box_checks.fingerprint_of(directory, *table)
    return found
