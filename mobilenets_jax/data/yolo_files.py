"""YOLO's files: a text file for each image, with a line 'class x y width height' for each box.

    DIR/images/train/NAME.jpg     DIR/labels/train/NAME.txt     DIR/data.yaml     and likewise val, test
    DIR/train/images/NAME.jpg     DIR/train/labels/NAME.txt     DIR/data.yaml     the same the other way round

x, y are the box's centre, in parts of the image's sides, as are width and height; class is a number from 0 on. The
names are in `data.yaml`, or one in each line of `classes.txt`; else `data.class_names` says them.
"""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import yaml
from etils import epath

from mobilenets_jax.data.box_checks import RawImage
from mobilenets_jax.data.folder_index import join, list_files, list_folders
from mobilenets_jax.data.image_sizes import read_sizes
from mobilenets_jax.errors import UserError

IMAGES, LABELS = 'images', 'labels'
DESCRIPTION, NAMES = 'data.yaml', 'classes.txt'
READERS = 8  # files that are read side by side


def list_splits(directory: str) -> list[str]:
    """The names of the splits."""
    if _is_grouped_by_kind(directory):
        return list_folders(join(directory, IMAGES))
    splits = [name for name in list_folders(directory) if IMAGES in list_folders(join(directory, name))]
    if not splits:
        raise UserError(f'data.dir={directory!r} has neither images/SPLIT nor SPLIT/images.')
    return splits


def read_splits(directory: str, splits: Sequence[str], names: Sequence[str]) -> dict[str, list[RawImage]]:
    """The images of each split by their names; those without a label file have no boxes, which a line on stderr says.

    Args:
        directory: of the data set.
        splits: their names.
        names: of all classes of the files, by their numbers.

    Raises:
        UserError: a file cannot be read, or is of another form.
    """
    pattern = '{kind}/{split}' if _is_grouped_by_kind(directory) else '{split}/{kind}'
    images, labels = ([pattern.format(kind=kind, split=split) for split in splits] for kind in (IMAGES, LABELS))
    listings = list_files(directory, images)
    found = zip(splits, images, labels, strict=True)
    return {
        split: _read_split(directory, folder, listings[folder].files, label_folder, names)
        for split, folder, label_folder in found
    }


def _read_split(directory: str, images: str, files: Sequence[str], labels: str, names: Sequence[str]) -> list[RawImage]:
    """The files of a folder of images, with those of a folder of labels."""
    paths = [join(join(directory, images), file) for file in files]
    label_files = [join(join(directory, labels), os.path.splitext(file)[0] + '.txt') for file in files]
    sizes = read_sizes(directory, paths)
    with ThreadPoolExecutor(READERS) as readers:
        texts = list(readers.map(_text, label_files))
    if not any(text is not None for text in texts):
        raise UserError(f'{join(directory, labels)} has no file NAME.txt for any of the {len(files)} images.')
    without = sum(text is None for text in texts)
    if without:
        print(
            f'{join(directory, labels)}: {without} of {len(texts)} images have no label file, so no box',
            file=sys.stderr,
        )
    found = zip(paths, sizes, texts, label_files, strict=True)
    return [
        _image(path, place, size, (text or '').splitlines(), names, file)
        for place, (path, size, text, file) in enumerate(found)
    ]


def read_names(directory: str) -> tuple[str, ...]:
    """The names of the classes by their numbers; () if no file has them; `UserError` if their form is wrong."""
    description, names = (_text(join(directory, file)) for file in (DESCRIPTION, NAMES))
    if description is None:
        return tuple(line.strip() for line in (names or '').splitlines() if line.strip())
    try:
        found = yaml.safe_load(description)['names']
        if isinstance(found, dict):
            found = [found[number] for number in range(len(found))]
        return tuple(map(str, found))
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f'{join(directory, DESCRIPTION)} has no list of names.') from error


def _is_grouped_by_kind(directory: str) -> bool:
    return IMAGES in list_folders(directory) and bool(list_folders(join(directory, IMAGES)))


def _text(file: str) -> str | None:
    """What is in a file; None if there is none."""
    try:
        return epath.Path(file).read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{file} cannot be read: {getattr(error, "strerror", None) or error}.') from error


def _image(
    path: str, place: int, size: tuple[int, int], lines: Sequence[str], names: Sequence[str], file: str
) -> RawImage:
    height, width = size
    boxes, classes = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            label, x, y, box_width, box_height = line.split()
            label, x, y, box_width, box_height = int(label), *map(float, (x, y, box_width, box_height))
        except ValueError as error:
            raise UserError(f"{file} line {number}: {line[:60]!r} is not 'class x y width height'.") from error
        boxes.append(
            (
                (y - box_height / 2) * height,
                (x - box_width / 2) * width,
                (y + box_height / 2) * height,
                (x + box_width / 2) * width,
            )
        )
        classes.append(names[label] if 0 <= label < len(names) else f'class {label}')
    return RawImage(path, place, size, boxes, classes)
