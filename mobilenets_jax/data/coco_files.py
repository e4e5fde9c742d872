"""COCO's files: a JSON file of images, boxes and classes for each split.

    DIR/annotations/instances_train2017.json     DIR/train2017/000000000009.jpg     and likewise val2017

Other places are said by `data.annotation_file` and `data.image_dir`.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence, Set
from typing import Any

from etils import epath

from mobilenets_jax.data.box_checks import RawImage
from mobilenets_jax.data.box_classes import sparse_names
from mobilenets_jax.data.detection_options import SPLIT, CocoPlaces
from mobilenets_jax.data.folder_index import join, list_files
from mobilenets_jax.errors import UserError

Document = Mapping[str, Any]


def list_splits(directory: str, places: CocoPlaces) -> list[str]:
    """The names of the splits for which there is an annotation file."""
    before, is_pattern, after = places.annotation_file.partition(SPLIT)
    if not is_pattern:
        return [os.path.splitext(os.path.basename(before))[0]]
    try:
        files = sorted(epath.Path(directory).glob(f'{before}*{after}'))
    except OSError as error:
        raise UserError(f'data.dir: cannot list {directory}: {error.strerror or error}.') from error
    names = [os.path.relpath(file, directory) for file in files]
    if not names:
        raise UserError(f'data.dir={directory!r} has no file {before}*{after}; data.annotation_file says where it is.')
    return [name[len(before) : len(name) - len(after)] for name in names]


def read_splits(
    directory: str, splits: Sequence[str], places: CocoPlaces
) -> tuple[dict[str, list[RawImage]], dict[int, str]]:
    """The images of each split, by their ids, and the names of the first one's classes by theirs.

    Raises:
        UserError: a file is missing, or the annotations are of another form.
    """
    folders = {split: places.image_dir.replace(SPLIT, split) for split in splits}
    listings = list_files(directory, list(dict.fromkeys(folders.values())))
    images, categories = {}, []
    for split, folder in folders.items():
        file = join(directory, places.annotation_file.replace(SPLIT, split))
        images[split], names = _read_split(file, join(directory, folder))
        categories.append(names)
        _check_files(images[split], {join(join(directory, folder), name) for name in listings[folder].files}, file)
    return images, categories[0]


def _read_split(file: str, folder: str) -> tuple[list[RawImage], dict[int, str]]:
    """The images that an annotation file lists, which are in `folder`, and its classes."""
    document = _read(file)
    try:
        categories = _categories(document, file)
        return _images(document, folder, categories, file), categories
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        reason = f'no {error}' if isinstance(error, KeyError) else str(error)
        raise UserError(f'{file} is no file of COCO annotations: an entry has {reason}.') from error


def class_names(categories: Mapping[int, str], coco_ids: str) -> tuple[str, ...]:
    """The names of a file's classes by label: by the order of their ids, or by id - 1 if `coco_ids` is 'sparse'."""
    if coco_ids == 'sparse':
        return sparse_names(dict(categories))
    return tuple(name for _, name in sorted(categories.items()))


def _read(file: str) -> Document:
    try:
        document = json.loads(epath.Path(file).read_text())
    except OSError as error:
        raise UserError(f'{file} cannot be read: {error.strerror or error}.') from error
    except (ValueError, RecursionError) as error:
        raise UserError(f'{file} is no JSON file, or damaged: {" ".join(str(error).split())}.') from error
    known = document if isinstance(document, dict) else {}
    missing = [key for key in ('images', 'annotations', 'categories') if key not in known]
    if missing:
        raise UserError(f'{file} is no file of COCO annotations: it has no {", ".join(missing)}.')
    return document


def _categories(document: Document, file: str) -> dict[int, str]:
    categories = {int(entry['id']): str(entry['name']) for entry in document['categories']}
    if len(categories) < len(document['categories']) or len(set(categories.values())) < len(categories):
        raise UserError(f'{file} has two categories of the same id or name.')
    if not categories:
        raise UserError(f'{file} has no categories.')
    return categories


def _images(document: Document, folder: str, categories: Mapping[int, str], file: str) -> list[RawImage]:
    """By id. Annotations of images that are not listed are left out, which a line on stderr says."""
    images = {}
    for entry in document['images']:
        size = int(entry['height']), int(entry['width'])
        image = RawImage(join(folder, str(entry['file_name'])), int(entry['id']), size, [], [], [], [])
        if images.setdefault(image.image_id, image) is not image:
            raise UserError(f'{file} has two images with the id {image.image_id}.')
        if min(size) < 1:
            raise UserError(f'{file} says that {entry["file_name"]} has {size[0]}x{size[1]} pixels (height x width).')
    alone = 0
    for entry in document['annotations']:
        image = images.get(entry['image_id'])
        if image is None:
            alone += 1
            continue
        left, top, width, height = map(float, entry['bbox'])
        image.boxes.append((top, left, top + height, left + width))
        image.classes.append(categories.get(entry['category_id'], f'category {entry["category_id"]}'))
        image.areas.append(float(entry.get('area', width * height)))
        image.crowd.append(bool(entry.get('iscrowd', 0)))
    if alone:
        print(f'{file}: {alone} annotations are left out, since they are of images that it lacks', file=sys.stderr)
    return [images[key] for key in sorted(images)]


def _check_files(images: Sequence[RawImage], known: Set[str], file: str) -> None:
    """That all images are among the known files; `UserError` names the first one that is not."""
    if not images:
        raise UserError(f'{file} lists no images.')
    missing = [image.path for image in images if image.path not in known]
    if missing:
        raise UserError(f'{file} lists {len(images)} images; {len(missing)} are not there, the first is {missing[0]}.')
