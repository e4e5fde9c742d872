"""ReaL's labels of ImageNet's validation images: all classes that an image shows, and none for images without one.

Paper: Beyer et al., Are we done with ImageNet?, 2006.07159: an image is a hit if its likeliest class is among its
    labels; images without a label are left out.
Reference: google-research/reassessed-imagenet, real.json: a list of 50,000 lists of labels, in the order of the numbers
    in the names of the files, ILSVRC2012_val_00000001.JPEG and so on; labels count the sorted WordNet ids.
"""

import re
from collections.abc import Sequence

from mobilenets_jax.config import read_json
from mobilenets_jax.errors import UserError, check

NUM_CLASSES = 1000
_FIELD = 'data.real_labels'
_FILE_NAME = re.compile(r'ILSVRC2012_val_(\d{8})\.\w+')
_WORDNET_ID = re.compile(r'n\d{8}')


def read_real_labels(path: str, images: Sequence[str], class_names: Sequence[str]) -> list[frozenset[int]]:
    """The labels of each image of an evaluation set.

    Args:
        path: of the file; local or gs://.
        images: the paths of the images, whose files have their names of ImageNet's validation set.
        class_names: label to name: the WordNet ids of all classes, sorted.

    Raises:
        UserError: the file is missing or has another form, or the images or the classes are not ImageNet's.
    """
    ids = all(map(_WORDNET_ID.fullmatch, class_names)) and list(class_names) == sorted(class_names)
    requirement = f'needs the folders of all {NUM_CLASSES} classes, named by their WordNet ids such as n01440764'
    check(ids and len(class_names) == NUM_CLASSES, _FIELD, path, requirement)
    try:
        lists = read_json(path)
    except FileNotFoundError:
        raise UserError(f'{_FIELD}={path!r} is missing.') from None
    fits = isinstance(lists, list) and all(map(_is_list_of_labels, lists))
    check(fits, _FIELD, path, f'is no list of lists of labels in 0 .. {NUM_CLASSES - 1}')
    labels = [frozenset(lists[_number(image, len(lists), path) - 1]) for image in images]
    check(any(labels), _FIELD, path, 'has no label of any evaluation image')
    return labels


def _is_list_of_labels(entry: object) -> bool:
    return isinstance(entry, list) and all(type(label) is int and 0 <= label < NUM_CLASSES for label in entry)


def _number(image: str, count: int, path: str) -> int:
    """The number in the name of an image's file."""
    found = _FILE_NAME.fullmatch(image.rpartition('/')[2])
    number = int(found[1]) if found else 0
    check(
        0 < number <= count, _FIELD, path, f'has labels of ILSVRC2012_val_00000001 .. {count:08}, and none of {image}'
    )
    return number
