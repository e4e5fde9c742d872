"""COCO and Pascal VOC with boxes as TFDS has prepared them, in ArrayRecord or TFRecord (a stream).

Boxes are known when an example is read, not before: an image with more than `data.max_boxes` ends the run then, and
boxes that cannot be learnt are dropped without a count. The objects of the evaluation split are read when they are
asked for. VOC's boxes are as TFDS has them, which counts the first pixel as 1: files (`voc_files`) begin at 0.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mobilenets_jax.data import box_checks, image_files
from mobilenets_jax.data.annotations import Annotations
from mobilenets_jax.data.box_checks import RawImage
from mobilenets_jax.data.box_classes import COCO_CATEGORIES, UNKNOWN, BoxOptions, label_of, sparse_names
from mobilenets_jax.data.detection_format import DetectionFormat
from mobilenets_jax.data.detection_options import CocoIds, DetectionOptions, DifficultBoxes
from mobilenets_jax.data.example_format import Signature, Target
from mobilenets_jax.data.host_pipeline import HostDataset
from mobilenets_jax.data.options import DataOptions, ReadOptions
from mobilenets_jax.data.order import Layout
from mobilenets_jax.data.shapes_only import MAX_BOXES
from mobilenets_jax.data.shards import Features
from mobilenets_jax.data.splits import Split
from mobilenets_jax.data.tfds_source import open_builder, open_set
from mobilenets_jax.errors import UserError, check

# The fields that only COCO, and only VOC has: to the features of a record, and their types.
_OF_COCO = {'crowd': ('is_crowd', tf.int64), 'areas': ('area', tf.int64)}
_OF_VOC = {'difficult': ('is_difficult', tf.int64)}


@dataclasses.dataclass(frozen=True)
class RecordFormat:
    """An `ExampleFormat` of TFDS's records: `example_format` of those of their boxes that are learnt.

    Attributes:
        example_format: makes the example from the image and its boxes.
        labels: of each of TFDS's classes; `UNKNOWN` of those that are not asked for.
        train_difficult: as of `DifficultBoxes`.
    """

    example_format: DetectionFormat
    labels: tuple[int, ...]
    train_difficult: bool

    def train(self, encoded: tf.Tensor, target: Target, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """As in `ExampleFormat`."""
        boxes = tf.clip_by_value(target['boxes'], 0.0, 1.0)
        labels = tf.gather(tf.constant(self.labels), target['labels'])
        wanted = (labels != UNKNOWN) & tf.reduce_all(boxes[:, 2:] > boxes[:, :2], axis=1)
        left_out = ['crowd'] if self.train_difficult else ['crowd', 'difficult']
        for name in left_out:
            if name in target:
                wanted &= target[name] == 0
        return self.example_format.train(encoded, {'boxes': boxes[wanted], 'labels': labels[wanted]}, seed)

    def evaluate(self, encoded: tf.Tensor, target: Target) -> dict[str, tf.Tensor]:
        """As in `ExampleFormat`."""
        return self.example_format.evaluate(encoded, {})

    def signature(self, train: bool) -> Signature:
        """As in `ExampleFormat`."""
        return self.example_format.signature(train)


class RecordAnnotations(Sequence[Annotations]):
    """The annotations of a split, which is read as a whole when the first one is asked for."""

    def __init__(
        self, split: Split, options: DataOptions, names: tuple[str, ...], class_names: tuple[str, ...], where: str
    ):
        """Of the classes `names`, TFDS's, those of `class_names`; messages call the split `where`."""
        self._split, self._options, self._names = split, options, names
        self._class_names, self._where = class_names, where

    def __len__(self) -> int:
        return self._split.num_examples

    def __getitem__(self, index):
        return self._all[index]

    @functools.cached_property
    def _all(self) -> list[Annotations]:
        elements = self._split.eval_elements(self._options, Layout(0, 1, 1), 0)
        try:
            read = list(elements.map(self._split.read).as_numpy_iterator())
        except tf.errors.OpError as error:
            raise self._split.find_damage() or UserError(f'{self._where} cannot be read: {error.message}') from error
        images = [_raw_image(place, *fields, self._names, self._where) for place, fields in enumerate(read)]
        return box_checks.check_images(images, self._class_names, self._where)


def create(
    name: str,
    directory: str,
    train_split: str,
    eval_split: str,
    options: DetectionOptions,
    box_options: BoxOptions,
    read_options: ReadOptions,
    difficult_boxes: DifficultBoxes,
    coco_ids: CocoIds,
) -> HostDataset:
    """Opens TFDS's 'coco/2017', 'voc/2007' or one of another year, as `tfds_source.create` does.

    Raises:
        UserError: the set is not prepared, has no boxes, or lacks the split.
    """
    builder = open_builder(name, directory)
    is_coco = name.partition('/')[0] == 'coco'
    names, features = _features(name, builder, is_coco)
    sparse = is_coco and coco_ids.coco_ids == 'sparse'
    class_names = box_options.chosen or (sparse_names(COCO_CATEGORIES) if sparse else names)
    example_format = RecordFormat(
        DetectionFormat(options, options.max_boxes or MAX_BOXES),
        tuple(label_of(one, class_names) for one in names),
        difficult_boxes.train_difficult,
    )
    splits, common = (train_split, eval_split), options.common()
    dataset = open_set(name, builder, splits, class_names, features, example_format, common, read_options)
    where = f'data.name={dataset.name!r}'
    dataset.annotations = RecordAnnotations(dataset.evaluation, common, names, class_names, where)
    return dataset


def _features(name: str, builder: tfds.core.DatasetBuilder, is_coco: bool) -> tuple[tuple[str, ...], Features]:
    """The names of the classes, and where a record has what."""
    found = builder.info.features
    of_source = _OF_COCO if is_coco else _OF_VOC
    for key in ('image', 'image/filename', 'objects'):
        check(key in found, 'data.name', f'tfds:{name}', f'has no feature {key!r}')
    objects = found['objects'].feature
    for key in ('bbox', 'label', *(key for key, _ in of_source.values())):
        check(key in objects, 'data.name', f'tfds:{name}', f"has no feature 'objects/{key}'")
    sequences = {name: (f'objects/{key}', dtype, []) for name, (key, dtype) in of_source.items()}
    sequences |= {'boxes': ('objects/bbox', tf.float32, [4]), 'labels': ('objects/label', tf.int64, [])}
    scalars = {'name': ('image/filename', tf.string)} | ({'id': ('image/id', tf.int64)} if is_coco else {})
    return tuple(objects['label'].names), Features('image', scalars, sequences)


def _raw_image(place: int, encoded: bytes, target: dict[str, np.ndarray], names: Sequence[str], where: str) -> RawImage:
    name = target['name'].decode()
    try:
        image = image_files.open_image(encoded)
    except image_files.ImageError as error:
        raise UserError(f'{where} has an example {name} that is no image: {error}') from error
    size = image.height, image.width
    return RawImage(
        name,
        int(target.get('id', place)),
        size,
        target['boxes'] * np.tile(size, 2),
        [names[label] for label in target['labels']],
        target.get('areas'),
        target.get('crowd', ()),
        target.get('difficult', ()),
    )
