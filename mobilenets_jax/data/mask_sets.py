"""Images with masks as files: folders as CamVid has them, Pascal VOC, Cityscapes.

    mask_folder  DIR/train/NAME.jpg         DIR/trainannot/NAME.png                and likewise val and test
    voc          DIR/JPEGImages/NAME.jpg    DIR/SegmentationClass/NAME.png         DIR/ImageSets/Segmentation/train.txt
    cityscapes   DIR/leftImg8bit/train/CITY/NAME_leftImg8bit.png    DIR/gtFine/train/CITY/NAME_gtFine_labelIds.png

Every image must have a mask. What is left out is said in a line, with a count.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from etils import epath

from mobilenets_jax.data import fingerprint, image_files, mask_index, split_names
from mobilenets_jax.data.class_sets import MaskOptions
from mobilenets_jax.data.folder_index import describe, join, list_files, list_folders
from mobilenets_jax.data.host_pipeline import HostDataset
from mobilenets_jax.data.mask_index import Facts, Pair
from mobilenets_jax.data.options import ReadOptions
from mobilenets_jax.data.segmentation_format import SegmentationFormat
from mobilenets_jax.data.segmentation_options import SegmentationOptions, Sides
from mobilenets_jax.data.shapes_only import CITYSCAPES_SIZE
from mobilenets_jax.data.splits import IndexedSplit
from mobilenets_jax.errors import UserError, check, check_choice

SPLIT = '{split}'  # in `MaskPlaces.mask_dir`
VOC_IMAGES, VOC_LISTS = 'JPEGImages', 'ImageSets/Segmentation'
CITYSCAPES_IMAGES, CITYSCAPES_IMAGE = 'leftImg8bit', '_leftImg8bit.png'
CITYSCAPES_MASKS, CITYSCAPES_MASK = 'gtFine', '_gtFine_labelIds.png'
MASK_SUFFIX = '.png'


class Source(NamedTuple):
    """The layout of the folder of a kind of data set.

    Attributes:
        classes: its own class set; '' for none.
        mask_dir: where its masks are, unless the config says it.
        eval_size: what its evaluation images are padded to; None: their own largest height and width.
        splits: the names of the splits of a folder, given the place of the masks.
        pairs: the files of each of some splits, given the folder, the splits and the place of the masks.
    """

    classes: str
    mask_dir: str
    eval_size: Sides | None
    splits: Callable[[str, str], list[str]]
    pairs: Callable[[str, Sequence[str], str], dict[str, list[Pair]]]


def create(
    name: str,
    directory: str,
    train_split: str,
    eval_split: str,
    options: SegmentationOptions,
    mask_options: MaskOptions,
    read_options: ReadOptions,
    mask_dir: str = '',
) -> HostDataset:
    """Lists images and masks, reads every mask, and checks that they form a data set.

    Args:
        name: one of `SOURCES`.
        directory: local or gs://.
        train_split: the split to train on, or several, 'train+val'; '' for the one with a training split's name.
        eval_split: the split to evaluate on; '' for the validation split or else the test split.
        options: how images become batches.
        mask_options: the classes.
        read_options: how files are read.
        mask_dir: as of `MaskPlaces`.

    Raises:
        UserError: a folder, a split or a file is missing, a mask does not fit its image, has a value that is no class
            or holds colours, or an evaluation image is too large.
    """
    source = SOURCES[name]
    mask_dir = mask_dir or source.mask_dir
    classes = mask_options.class_set(source.classes)
    check(bool(directory), 'data.dir', directory, 'must name the folder of images and masks')
    known = source.splits(directory, mask_dir)
    named = [split for split in known if split_names.is_split_name(split)]
    train, evaluation = split_names.choose(named, known, directory, train_split, eval_split, may_join=True)
    if evaluation is None:
        check_choice('data.eval_split', eval_split, known)
    splits = [split for split in (train, evaluation) if split is not None]
    parts = list(dict.fromkeys(name for split in splits for name in split_names.parts(split, known)))
    found = source.pairs(directory, parts, mask_dir)
    pairs = {split: split_names.joined(split, found) for split in splits}
    facts = _facts(directory, pairs)
    for split in splits:
        mask_index.check_all(pairs[split], facts[split], classes)
    own_size = None if options.eval_resize else source.eval_size  # resized images may have any size
    eval_size = options.eval_size or own_size or _largest(facts[evaluation])
    mask_index.check_fits(pairs[evaluation], facts[evaluation], eval_size)
    fingerprints = {
        part: _fingerprint(directory, pairs[split], facts[split])
        for part, split in ((fingerprint.TRAIN, train), (fingerprint.EVALUATION, evaluation))
        if split is not None
    }
    dataset = HostDataset(
        name,
        classes.names,
        train=None if train is None else open_split(pairs[train]),
        evaluation=open_split(pairs[evaluation]),
        example_format=SegmentationFormat(classes, options, eval_size),
        options=options.common(),
        read_options=read_options,
        fingerprints=fingerprints,
    )
    dataset.palette = classes.palette
    dataset.eval_names = [pair.image for pair in pairs[evaluation]]
    return dataset


def open_split(pairs: Sequence[Pair]) -> IndexedSplit:
    """The images of `pairs`, in that order, with their masks."""
    images, masks = (np.array([os.fsencode(path) for path in paths], object) for paths in zip(*pairs, strict=True))
    return IndexedSplit(
        num_examples=len(pairs),
        fetch=lambda index: {'image': images[index], 'mask': masks[index]},
        signature={'image': tf.string, 'mask': tf.string},
        read=lambda element: (
            tf.io.read_file(element['image']),
            {'segmentation': tf.io.read_file(element['mask'])},
        ),
        describe=lambda element: '{} (mask {})'.format(
            *(os.fsdecode(element[name].numpy()) for name in ('image', 'mask'))
        ),
    )


def _facts(directory: str, pairs: dict[str, list[Pair]]) -> dict[str, list[Facts]]:
    """What is known of the pairs of each split; says how many images have an orientation."""
    found = mask_index.read_all(directory, [pair for split in pairs.values() for pair in split])
    image_files.report_orientations(sum(facts.turned for facts in found))
    facts = iter(found)
    return {split: [next(facts) for _ in pairs[split]] for split in pairs}


def _largest(facts: Sequence[Facts]) -> Sides:
    height, width = (max(sides) for sides in zip(*(found.size for found in facts), strict=True))
    return height, width


def _fingerprint(directory: str, pairs: Sequence[Pair], facts: Sequence[Facts]) -> fingerprint.Fingerprint:
    """The fingerprint from the names of the files, and facts about the masks."""
    rows = [
        [*(path.removeprefix(directory.rstrip('/')) for path in pair), *found.size, *found.values]
        for pair, found in zip(pairs, facts, strict=True)
    ]
    return [fingerprint.of_facts('images and masks', len(rows), *rows)]


def _folder_splits(directory: str, mask_dir: str) -> list[str]:
    """The folders for which there is a folder of masks."""
    folders = list_folders(directory)
    splits = [name for name in folders if mask_dir.replace(SPLIT, name) in {*folders} - {name}]
    if not splits:
        raise UserError(
            f'data.dir={directory!r} has no folder with masks in {mask_dir.replace(SPLIT, "NAME")!r} beside it; '
            f'it has {", ".join(folders) or "no folders"}. data.mask_dir says where masks are.'
        )
    return splits


def _folder_pairs(directory: str, splits: Sequence[str], mask_dir: str) -> dict[str, list[Pair]]:
    folders = {split: mask_dir.replace(SPLIT, split) for split in splits}
    listings = list_files(directory, list(dict.fromkeys([*folders, *folders.values()])))
    _report_left_out(directory, sum((Counter(listing.left_out) for listing in listings.values()), Counter()))
    pairs = {}
    for split, folder in folders.items():
        images, masks = listings[split].files, set(listings[folder].files)
        wanted = [os.path.splitext(image)[0] + MASK_SUFFIX for image in images]
        pairs[split] = [
            _pair(join(directory, split), image, join(directory, folder), mask, masks)
            for image, mask in zip(images, wanted, strict=True)
        ]
        if SPLIT in mask_dir:  # else the folder has the masks of other splits, too
            _report_masks_without_image(join(directory, folder), masks - set(wanted))
    return pairs


def _voc_splits(directory: str, mask_dir: str) -> list[str]:
    """The lists of names."""
    lists = join(directory, VOC_LISTS)
    try:
        names = sorted(path.name for path in epath.Path(lists).iterdir())
    except OSError as error:
        raise UserError(f'data.dir: cannot list {lists}: {error.strerror or error}.') from error
    return [os.path.splitext(name)[0] for name in names if name.endswith('.txt')]


def _voc_pairs(directory: str, splits: Sequence[str], mask_dir: str) -> dict[str, list[Pair]]:
    listings = list_files(directory, [VOC_IMAGES, mask_dir])
    images, masks = (set(listings[folder].files) for folder in (VOC_IMAGES, mask_dir))
    pairs = {}
    for split in splits:
        file = join(directory, f'{VOC_LISTS}/{split}.txt')
        try:
            names = epath.Path(file).read_text().split()
        except OSError as error:
            raise UserError(f'{file} cannot be read: {error.strerror or error}.') from error
        check(bool(names), 'data.dir', file, 'names no image')
        for name in names:
            check(f'{name}.jpg' in images, file, name, f'is not in {join(directory, VOC_IMAGES)}')
        pairs[split] = [
            _pair(join(directory, VOC_IMAGES), f'{name}.jpg', join(directory, mask_dir), name + MASK_SUFFIX, masks)
            for name in names
        ]
    return pairs


def _cityscapes_splits(directory: str, mask_dir: str) -> list[str]:
    with_masks = list_folders(join(directory, CITYSCAPES_MASKS))
    return [name for name in list_folders(join(directory, CITYSCAPES_IMAGES)) if name in with_masks]


def _cityscapes_pairs(directory: str, splits: Sequence[str], mask_dir: str) -> dict[str, list[Pair]]:
    images, masks = (join(directory, folder) for folder in (CITYSCAPES_IMAGES, CITYSCAPES_MASKS))
    of_images, of_masks = list_files(images, splits), list_files(masks, splits)
    pairs = {}
    for split in splits:
        names = [
            file.removesuffix(CITYSCAPES_IMAGE) for file in of_images[split].files if file.endswith(CITYSCAPES_IMAGE)
        ]
        check(bool(names), 'data.dir', join(images, split), f'has no file *{CITYSCAPES_IMAGE}')
        known = {file for file in of_masks[split].files if file.endswith(CITYSCAPES_MASK)}
        wanted = [name + CITYSCAPES_MASK for name in names]
        pairs[split] = [
            _pair(join(images, split), name + CITYSCAPES_IMAGE, join(masks, split), mask, known)
            for name, mask in zip(names, wanted, strict=True)
        ]
        _report_masks_without_image(join(masks, split), known - set(wanted))
    return pairs


def _pair(images: str, image: str, masks: str, mask: str, known: set[str]) -> Pair:
    """An image and its mask, which must be one of the known ones."""
    if mask not in known:
        raise UserError(f'{join(images, image)} has no mask {join(masks, mask)}.')
    return Pair(join(images, image), join(masks, mask))


def _report_masks_without_image(folder: str, masks: set[str]) -> None:
    if masks:
        print(f'{folder}: {len(masks)} files are left out, since they are masks of no image', file=sys.stderr)


def _report_left_out(directory: str, left_out: Counter) -> None:
    if left_out:
        print(f'{directory}: files that are no part of the data set: {describe(left_out)}', file=sys.stderr)


SOURCES = {
    'mask_folder': Source('', f'{SPLIT}annot', None, _folder_splits, _folder_pairs),
    'voc': Source('voc', 'SegmentationClass', (513, 513), _voc_splits, _voc_pairs),
    'cityscapes': Source('cityscapes', '', CITYSCAPES_SIZE, _cityscapes_splits, _cityscapes_pairs),
}
