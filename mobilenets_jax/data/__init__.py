"""Data: exact, deterministic and resumable input, from memory, files of images, masks and boxes, records and TFDS.

    dataset = create_dataset('digits', image_size=32, batch_size=64, seed=0)
    for batch in dataset.train_batches(Layout(process_index=0, process_count=1, local_device_count=8)):
        ...

The order of the examples is a function of the seed alone, and every random choice one of (seed, epoch, index of the
example), so that runs can be stopped, resumed and laid out on other hosts without changing what the model sees.
TensorFlow is imported when a data set is created that needs it, and not before.
"""

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from mobilenets_jax.data.box_classes import BoxOptions
from mobilenets_jax.data.class_sets import MaskOptions
from mobilenets_jax.data.dataset import Dataset
from mobilenets_jax.data.detection_options import CocoIds, CocoPlaces, DetectionOptions, DifficultBoxes, EmptyImages
from mobilenets_jax.data.options import DataOptions, FolderLabels, ImageOptions, MemoryOptions, ReadOptions
from mobilenets_jax.data.order import Layout
from mobilenets_jax.data.real_labels import read_real_labels
from mobilenets_jax.data.segmentation_options import MaskPlaces, SegmentationOptions
from mobilenets_jax.data.shapes_only import BOX_SIZES, SIZES, ShapesOnly
from mobilenets_jax.errors import UserError, check, check_choice

__all__ = ['Dataset', 'Layout', 'create_dataset', 'fields_of_source', 'tasks_of_source']

_TFDS = 'tfds:NAME'
_TFDS_PREFIX = 'tfds:'
_TFDS_CITYSCAPES = 'tfds:cityscapes'
_DECODED = (DataOptions, ImageOptions, ReadOptions)
_MASKS = (SegmentationOptions, MaskOptions, ReadOptions)
_BOXES = (DetectionOptions, BoxOptions, ReadOptions)
# Task -> source -> its options, in addition to a folder and splits, which the embedded digits do not have.
SOURCES_OF_TASKS: dict[str, dict[str, tuple[type, ...]]] = {
    'classification': {
        'digits': (DataOptions,),
        'image_folder': (*_DECODED, FolderLabels),
        'memory_folder': (DataOptions, MemoryOptions, FolderLabels),
        'records': _DECODED,
        _TFDS: _DECODED,
    },
    'segmentation': {
        'mask_folder': (*_MASKS, MaskPlaces),
        'voc': (*_MASKS, MaskPlaces),
        'cityscapes': _MASKS,
        _TFDS_CITYSCAPES: _MASKS,
    },
    'detection': {
        'coco': (*_BOXES, EmptyImages, CocoIds, CocoPlaces),
        'voc': (*_BOXES, EmptyImages, DifficultBoxes),
        'yolo': (*_BOXES, EmptyImages),
        'tfds:coco': (*_BOXES, CocoIds),
        'tfds:voc': (*_BOXES, DifficultBoxes),
    },
}


def create_dataset(
    name: str,
    *,
    directory: str = '',
    train_split: str = '',
    eval_split: str = '',
    task: str | None = None,
    shapes_only: bool = False,
    **choices: Any,
) -> Dataset:
    """Opens a data set and checks it without reading images; all masks and all files of boxes are read.

    Args:
        name: of classification: 'digits' (embedded), 'image_folder', 'memory_folder' (an image folder kept in memory),
            'records' (an image folder prepared as sharded records) or 'tfds:NAME'; of segmentation: 'mask_folder',
            'voc', 'cityscapes' or 'tfds:cityscapes'; of detection: 'coco', 'voc', 'yolo', 'tfds:coco/2017' or
            'tfds:voc/2007' (and their other years).
        directory: of the image folder, the prepared records or TFDS's data ('' = TFDS's own); not of the digits.
        train_split: the split to train on; '' for the one of that name. The digits have their own.
        eval_split: the split to evaluate on; '' for the source's default, the validation split if it has one. The
            digits have their own.
        task: a key of `SOURCES_OF_TASKS`, which the source must be for; None: the first one that it is for.
        shapes_only: whether a data set of known sizes is not opened: see `shapes_only`.
        **choices: for classification the fields of `options.DataOptions`, `MemoryOptions` (of folders in memory),
            `FolderLabels` (of both image folders), `ImageOptions` and `ReadOptions` (of images that are decoded on the
            host); for segmentation the fields of `segmentation_options.SegmentationOptions`, `class_sets.MaskOptions`,
            `segmentation_options.MaskPlaces` (of files) and `ReadOptions`; for detection the fields of the classes in
            `detection_options`, of `box_classes.BoxOptions` and of `ReadOptions`.

    Raises:
        UserError: an unknown choice, a value out of range, or data that are missing or do not fit together.
        TypeError: a choice that no source of the task has.
    """
    tasks = [task] if task else tasks_of_source(name)
    if not tasks or _known_source(name) not in SOURCES_OF_TASKS[tasks[0]]:
        check_choice('data.name', name, SOURCES_OF_TASKS[task] if task else set().union(*SOURCES_OF_TASKS.values()))
    return _CREATE[tasks[0]](name, (directory, train_split, eval_split), shapes_only, choices)


def _create_classification(
    name: str, places: tuple[str, str, str], shapes_only: bool, choices: Mapping[str, Any]
) -> Dataset:
    options, memory_options, image_options, read_options, labels = _take_choices(
        choices, DataOptions, MemoryOptions, ImageOptions, ReadOptions, FolderLabels
    )
    if shapes_only and name in SIZES and not places[1]:
        return ShapesOnly.of_classification(name, options)
    if name == 'digits':
        return _import_source('digits', name).create(options)
    if name == 'memory_folder':
        return _labelled(_import_source('memory_folder', name).create(*places, options, memory_options), labels)
    if name == 'image_folder':
        dataset = _import_source('image_folder', name).create(*places, options, image_options, read_options)
        return _labelled(dataset, labels)
    if name.startswith(_TFDS_PREFIX):
        source = functools.partial(_import_source('tfds_source', name).create, name.removeprefix(_TFDS_PREFIX))
    else:
        source = _import_source(name, name).create
    return source(*places, options, image_options, read_options)


def _labelled(dataset: Dataset, labels: FolderLabels) -> Dataset:
    """The data set with what is told of its labels."""
    names = dataset.class_names
    if labels.numbered_classes:
        other = next((name for label, name in enumerate(names) if name != str(label)), None)
        numbers = f'needs folders named 0 .. {len(names) - 1}; it is {other!r} that is none of them'
        check(other is None, 'data.numbered_classes', True, numbers)
    dataset.numbered_classes = labels.numbered_classes
    if labels.real_labels:
        assert dataset.eval_names is not None  # folders know their images
        dataset.real_labels = read_real_labels(labels.real_labels, dataset.eval_names, names)
    return dataset


def _create_segmentation(
    name: str, places: tuple[str, str, str], shapes_only: bool, choices: Mapping[str, Any]
) -> Dataset:
    options, mask_options, mask_places, read_options = _take_choices(
        choices, SegmentationOptions, MaskOptions, MaskPlaces, ReadOptions
    )
    if shapes_only and name in SIZES and not places[1]:
        return ShapesOnly.of_segmentation(name, options, mask_options)
    if name.startswith(_TFDS_PREFIX):
        source = _import_source('tfds_source', name).create_cityscapes
        return source(name.removeprefix(_TFDS_PREFIX), *places, options, mask_options, read_options)
    source = _import_source('mask_sets', name).create
    return source(name, *places, options, mask_options, read_options, mask_places.mask_dir)


def _create_detection(
    name: str, places: tuple[str, str, str], shapes_only: bool, choices: Mapping[str, Any]
) -> Dataset:
    options, box_options, read_options, *of_sources = _take_choices(
        choices, DetectionOptions, BoxOptions, ReadOptions, EmptyImages, DifficultBoxes, CocoIds, CocoPlaces
    )
    empty_images, difficult_boxes, coco_ids, coco_places = of_sources
    if box_options.chosen and coco_ids.coco_ids == 'sparse':
        raise UserError(
            "data.coco_ids='sparse' has no effect with data.classes or data.class_names, which say the labels."
        )
    if shapes_only and name in BOX_SIZES and not places[1]:
        return ShapesOnly.of_detection(name, options, box_options, coco_ids)
    if name.startswith(_TFDS_PREFIX):
        source = _import_source('tfds_boxes', name).create
        return source(
            name.removeprefix(_TFDS_PREFIX), *places, options, box_options, read_options, difficult_boxes, coco_ids
        )
    source = _import_source('box_sets', name).create
    return source(
        name, *places, options, box_options, read_options, empty_images, difficult_boxes, coco_ids, coco_places
    )


_CREATE = {
    'classification': _create_classification,
    'segmentation': _create_segmentation,
    'detection': _create_detection,
}


def tasks_of_source(name: str) -> list[str]:
    """The tasks that a source is for: Pascal VOC has masks and boxes; none for an unknown one."""
    return [task for task, sources in SOURCES_OF_TASKS.items() if _known_source(name) in sources]


def fields_of_source(name: str, task: str | None = None) -> frozenset[str]:
    """The fields of `config.data`, without `name`, that a source uses for a task (None: any); unknown source: none."""
    tasks = [task] if task else SOURCES_OF_TASKS
    options = [one for task in tasks for one in SOURCES_OF_TASKS[task].get(_known_source(name), ())]
    fields = {field.name for option in options for field in dataclasses.fields(option)}
    of_files = {'dir', 'train_split', 'eval_split'} if options and name != 'digits' else set()
    return frozenset(fields | of_files)


def _known_source(name: str) -> str:
    """The key of a source in `SOURCES_OF_TASKS`; `name` itself if there is none."""
    if not name.startswith(_TFDS_PREFIX):
        return name
    without_config = name.partition('/')[0]
    return without_config if any(without_config in sources for sources in SOURCES_OF_TASKS.values()) else _TFDS


def _take_choices(choices: Mapping[str, Any], *option_classes: type) -> list[Any]:
    """An object of each class, a dataclass, from those of the choices that are its fields."""
    taken = [{field.name for field in dataclasses.fields(one)} & choices.keys() for one in option_classes]
    unknown = choices.keys() - set().union(*taken)
    if unknown:
        raise TypeError(f'no data set has the choice {", ".join(sorted(unknown))}')
    pairs = zip(option_classes, taken, strict=True)
    return [one(**{name: choices[name] for name in names}) for one, names in pairs]


def _import_source(module: str, name: str) -> ModuleType:
    """Imports a module of this package that needs more than JAX; `UserError` if a package is not installed."""
    try:
        return importlib.import_module(f'{__name__}.{module}')
    except ModuleNotFoundError as error:
        raise UserError(f'data.name={name!r} needs the Python package {error.name}, which is not installed.') from error
