"""How a folder of images is laid out: DIR/train/CLASS/*.jpg, DIR/val/CLASS/*.jpg, or to evaluate DIR/CLASS/*.jpg.

A folder is a split if it has a split's name (see `split_names`), holds folders of classes and no images of its own; a
class may be called 'train'. Images in folders within a class's folder belong to the class.

Labels count the sorted classes; as numbers if all of them are whole numbers. Names are compared and kept in Unicode's
composed form (NFC), whatever the form that they have on the disk. What is left out is said in a line, with a count.
"""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mobilenets_jax.data import fingerprint, split_names
from mobilenets_jax.data.folder_index import describe, join, list_files, list_folders, list_folders_and_images
from mobilenets_jax.errors import UserError, check

BESIDE_CLASSES = 'images beside the folders of classes'


class Files(NamedTuple):
    """The images of a split.

    Attributes:
        paths: sorted by label, then by path.
        labels: of each.
        parts: of the split's fingerprint, one for each class.
    """

    paths: list[str]
    labels: list[int]
    parts: list[fingerprint.Part]


class ImageFolder(NamedTuple):
    """The images of two splits.

    Attributes:
        class_names: label to name.
        train: None if there is no training split.
        evaluation: of the same classes, some of which may have no image.
    """

    class_names: list[str]
    train: Files | None
    evaluation: Files

    @property
    def fingerprints(self) -> dict[str, fingerprint.Fingerprint]:
        """Those of a `Dataset`."""
        splits = {fingerprint.TRAIN: self.train, fingerprint.EVALUATION: self.evaluation}
        return {name: fingerprint.condensed(files.parts) for name, files in splits.items() if files}


def read_image_folder(directory: str, train_split: str, eval_split: str) -> ImageFolder:
    """Lists the images of the splits of `directory`.

    With a training split, labels count its classes. Without one the classes of the evaluation split itself are counted;
    if no folder is a split they are in `directory`.

    Args:
        directory: local or gs://.
        train_split: the folder to train on; '' for the one with a training split's name.
        eval_split: the folder to evaluate on; '' for the validation split or else the test split.

    Raises:
        UserError: the directory, a split, a class or an image is missing, or the classes do not fit.
    """
    check(bool(directory), 'data.dir', directory, 'must name the folder of images')
    splits = [] if train_split and eval_split else find_splits(directory)
    train, evaluation = split_names.choose(splits, list_folders(directory), directory, train_split, eval_split)
    if evaluation is None and train is not None:
        known = ', '.join((*split_names.VALIDATION, *split_names.TEST))
        raise UserError(f'data.dir={directory!r} has no evaluation split with folders of classes. Known: {known}.')
    chosen = [name for name in (train, evaluation) if name is not None]
    if splits:
        report_others(directory, {*splits, *chosen})
    class_names, files = read_splits(directory, chosen or [''])
    return ImageFolder(class_names, None if train is None else files[train], files[evaluation or ''])


def find_splits(directory: str) -> list[str]:
    """The folders of `directory` that are splits; none if its folders are classes.

    Raises:
        UserError: it is not clear which.
    """
    folders = list_folders(directory)
    splits = filter(split_names.is_split_name, folders)
    named = {name: list_folders_and_images(join(directory, name)) for name in splits}
    with_classes = [name for name, (classes, _) in named.items() if classes]
    with_images = [name for name, (_, images) in named.items() if images]
    splits = [name for name in with_classes if name not in with_images]
    if with_images and (splits or len(named) == len(folders)):
        both = [name for name in with_images if name in with_classes]
        if both:
            raise UserError(
                f'{join(directory, both[0])} has folders of classes and images beside them: move the images.'
            )
        if not splits:
            raise UserError(f'{join(directory, with_images[0])} has images, but no folders of classes.')
    return splits


def report_others(directory: str, splits: Iterable[str]) -> None:
    """Says which folders of `directory` are none of the splits, if there are any."""
    others = [name for name in list_folders(directory) if name not in splits]
    if others:
        names = ', '.join(others[:5]) + (f' and {len(others) - 5} more' if len(others) > 5 else '')
        print(f'{directory}: left out, since they are no splits with folders of classes: {names}', file=sys.stderr)


def read_splits(directory: str, splits: list[str]) -> tuple[list[str], dict[str, Files]]:
    """The classes of the first split, in the order of their labels, and the images of each split.

    Args:
        directory: has the folders of the splits; a split called '' is the directory itself.
        splits: their names; the others may lack classes of the first, but have none that it has not.

    Raises:
        UserError: a split, a class or an image is missing, or the classes do not fit.
    """
    left_out = Counter()
    folders = {split: _class_folders(join(directory, split), left_out) for split in splits}
    first = splits[0]
    class_names = _in_label_order(folders[first])
    check(len(class_names) > 1, 'data.dir', directory, f'must have two classes or more, but has {len(class_names)}')
    for split in splits:
        unknown = sorted(folders[split].keys() - folders[first].keys())
        if unknown:
            where = join(directory, split)
            raise UserError(f'data.dir={directory!r}: {where} has class {unknown[0]!r}, which {first} lacks.')
    files = {split: _list_split(join(directory, split), class_names, folders[split], left_out) for split in splits}
    if left_out:
        print(f'{directory}: files that are no part of the data set: {describe(left_out)}', file=sys.stderr)
    return class_names, files


def _class_folders(directory: str, left_out: Counter) -> dict[str, str]:
    """The name of each class, and of its folder; adds to `left_out` the number of images next to them."""
    names, images = list_folders_and_images(directory)
    if images:
        left_out[BESIDE_CLASSES] += len(images)
    folders = {}
    for folder in names:
        name = unicodedata.normalize('NFC', folder)
        if name in folders:
            both = f'{ascii(folders[name])} and {ascii(folder)}'
            raise UserError(f'data.dir: {directory} has two folders of class {name!r}, in Unicode {both}.')
        folders[name] = folder
    return folders


def _in_label_order(class_names: Iterable[str]) -> list[str]:
    """The names sorted, as numbers if all are numbers: 10 comes after 9."""
    names = sorted(class_names)
    return sorted(names, key=int) if all(re.fullmatch('[0-9]+', name) for name in names) else names


def _list_split(directory: str, class_names: list[str], folders: Mapping[str, str], left_out: Counter) -> Files:
    """The images in the folders of a split's classes; adds to `left_out` how many files are none."""
    listings = list_files(directory, [folders[name] for name in class_names if name in folders])
    check(bool(listings), 'data.dir', directory, 'has no images in folders of the known classes')
    paths, labels, parts = [], [], []
    for label, name in enumerate(class_names):
        if name in folders:
            listing = listings[folders[name]]
            paths += [join(join(directory, folders[name]), file) for file in listing.files]
            labels += [label] * len(listing.files)
            parts.append(fingerprint.of_names(f'class {name!r}', listing.files))
            left_out.update(listing.left_out)
    return Files(paths, labels, parts)
