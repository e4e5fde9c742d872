"""Pascal VOC's files: an XML file of boxes for each image, and a list of images for each split.

    DIR/JPEGImages/NAME.jpg     DIR/Annotations/NAME.xml     DIR/ImageSets/Main/train.txt, likewise val, trainval, test

A folder of such folders, `VOC2007` and `VOC2012`, has the splits `VOC2007/trainval`, `VOC2012/trainval` and so on.

VOC counts pixels from 1 and the last one is part of the box: xmin=1, xmax=10 are the first ten columns, 0 .. 10.
"""

import os
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from etils import epath

from mobilenets_jax.data.box_checks import RawImage
from mobilenets_jax.data.box_classes import BOX_CLASSES
from mobilenets_jax.data.folder_index import join, list_files, list_folders
from mobilenets_jax.errors import UserError, check

IMAGES, ANNOTATIONS, LISTS = 'JPEGImages', 'Annotations', 'ImageSets/Main'
READERS = 8  # files that are read side by side


def list_splits(directory: str) -> list[str]:
    """The names of the lists, without those of a class, such as 'cat_train'; of a folder of years with the year."""
    folders = list_folders(directory)
    if 'ImageSets' not in folders and (years := [name for name in folders if _has_lists(join(directory, name))]):
        return [f'{year}/{split}' for year in years for split in list_splits(join(directory, year))]
    lists = join(directory, LISTS)
    try:
        names = sorted(path.name for path in epath.Path(lists).iterdir())
    except OSError as error:
        raise UserError(f'data.dir: cannot list {lists}: {error.strerror or error}.') from error
    splits = [os.path.splitext(name)[0] for name in names if name.endswith('.txt')]
    return [split for split in splits if split.rpartition('_')[2] not in splits or '_' not in split]


def _has_lists(directory: str) -> bool:
    return 'ImageSets' in list_folders(directory)


def read_split(directory: str, split: str) -> list[RawImage]:
    """The images of a split in the order of its list.

    Raises:
        UserError: a file is missing, or of another form.
    """
    year, _, split = split.rpartition('/')
    directory = join(directory, year) if year else directory
    list_file = join(directory, f'{LISTS}/{split}.txt')
    try:
        names = epath.Path(list_file).read_text().splitlines()
    except OSError as error:
        raise UserError(f'{list_file} cannot be read: {error.strerror or error}.') from error
    names = [name.strip() for name in names if name.strip()]
    check(bool(names), 'data.dir', list_file, 'names no image')
    files = {os.path.splitext(file)[0]: file for file in list_files(directory, [IMAGES])[IMAGES].files}
    for name, count in Counter(names).items():
        check(count == 1, list_file, name, f'stands there {count} times')
        check(name in files, list_file, name, f'is not in {join(directory, IMAGES)}')

    def read(place: int) -> RawImage:
        file = join(directory, f'{ANNOTATIONS}/{names[place]}.xml')
        return _read(file, join(directory, f'{IMAGES}/{files[names[place]]}'), place)

    with ThreadPoolExecutor(READERS) as readers:
        return list(readers.map(read, range(len(names))))


def class_names(images: Sequence[RawImage], where: str) -> tuple[str, ...]:
    """VOC's twenty; `UserError` that lists the classes of the files if they have others."""
    found = Counter(name for image in images for name in image.classes)
    if not set(found) <= set(BOX_CLASSES['voc']):
        shown = ', '.join(f'{name!r} ({count})' for name, count in found.most_common(30))
        raise UserError(
            f"data.class_names must say which classes are meant, since {where} has not only VOC's, but {shown}."
        )
    return BOX_CLASSES['voc']


def _read(file: str, path: str, place: int) -> RawImage:
    """The boxes of one image."""
    try:
        root = ElementTree.fromstring(epath.Path(file).read_bytes())
    except FileNotFoundError as error:
        raise UserError(f'{path} has no annotations {file}.') from error
    except OSError as error:
        raise UserError(f'{file} cannot be read: {error.strerror or error}.') from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f'{file} is no XML file, or damaged: {error}.') from error
    height, width = (int(_number(root, f'size/{side}', file)) for side in ('height', 'width'))
    check(min(height, width) > 0, file, f'{height}x{width}', 'is no height x width of an image')
    objects = root.findall('object')
    return RawImage(
        path,
        place,
        (height, width),
        [_box(one, file) for one in objects],
        [one.findtext('name', '').strip() for one in objects],
        difficult=[one.findtext('difficult', '0').strip() == '1' for one in objects],
    )


def _box(found: ElementTree.Element, file: str) -> tuple[float, ...]:
    top, left, bottom, right = (_number(found, f'bndbox/{name}', file) for name in ('ymin', 'xmin', 'ymax', 'xmax'))
    if bottom <= top or right <= left:  # a slip of the mouse and no box of one pixel: it stays without area
        return top, left, bottom, right
    return top - 1, left - 1, bottom, right


def _number(root: ElementTree.Element, path: str, file: str) -> float:
    text = root.findtext(path, '')
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f'{file}: {path}={text!r} is no number.') from error
