"""What is known of images and their masks once every mask has been read: sizes, values, and whether they fit together.

All masks of a set are read when it is opened, so that a wrong one is named then and not in the middle of a run. On a
local disk what was found out is kept in a hidden file, see `index_file`; in a bucket the masks are read at every start.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from mobilenets_jax.buckets import is_bucket
from mobilenets_jax.data import image_files
from mobilenets_jax.data.class_sets import UNKNOWN, ClassSet
from mobilenets_jax.data.image_files import ImageError
from mobilenets_jax.data.index_file import read_index, stamp, write_index
from mobilenets_jax.data.mask_files import read_mask
from mobilenets_jax.errors import UserError

INDEX_FILE = '.mobilenets_jax_masks.json'
FORMAT_VERSION = 1
READERS = 8  # masks that are read side by side
SHOWN_VALUES = 5  # of the unknown ones of a mask


class Pair(NamedTuple):
    """The paths of an image and of its mask."""

    image: str
    mask: str


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of an image and its mask.

    Attributes:
        size: height and width of the mask, in pixels.
        image_size: of the image; None if its file cannot be read.
        values: those that the mask has, sorted.
        turned: whether the image has an EXIF orientation, which is not applied.
        stamps: of both files; [] if they may change without.
    """

    size: tuple[int, int]
    image_size: tuple[int, int] | None
    values: tuple[int, ...]
    turned: bool
    stamps: list[list[int]]

    @classmethod
    def parsed(cls, fields: Mapping[str, Any]) -> 'Facts':
        """Facts from JSON; raises `ValueError`, `TypeError` or `KeyError` if they are not valid."""
        height, width = map(int, fields['size'])
        image_size = fields['image_size'] and tuple(map(int, fields['image_size']))
        values = tuple(map(int, fields['values']))
        return cls((height, width), image_size, values, bool(fields['turned']), list(fields['stamps']))


def read_all(directory: str, pairs: Sequence[Pair]) -> list[Facts]:
    """What is known of each pair of files under `directory`, which has the index.

    Raises:
        UserError: a mask cannot be read, or is none.
    """
    path = epath.Path(directory) / INDEX_FILE
    local = not is_bucket(directory)
    known = read_index(path, FORMAT_VERSION, 'masks', Facts.parsed, 'the masks are read again') if local else {}
    names = [os.path.relpath(pair.mask, directory) if local else pair.mask for pair in pairs]

    def read_one(name: str, pair: Pair) -> Facts:
        found = known.get(name)
        stamps = [stamp(file) for file in pair] if local else []
        return found if found and stamps and all(stamps) and found.stamps == stamps else _read(pair, stamps)

    with ThreadPoolExecutor(READERS) as readers:
        facts = list(readers.map(read_one, names, pairs))
    index = known | {name: found for name, found in zip(names, facts, strict=True) if all(found.stamps)}
    if local and index != known:
        entries = {name: dataclasses.asdict(found) for name, found in index.items()}
        write_index(path, FORMAT_VERSION, 'masks', entries, 'the masks are read at every start')
    return facts


def _read(pair: Pair, stamps: list[list[int]]) -> Facts:
    """Reads a mask, and the head of its image."""
    try:
        values = read_mask(epath.Path(pair.mask).read_bytes())
        encoded = epath.Path(pair.image).read_bytes()
    except ImageError as error:
        raise UserError(f'{pair.mask} is no mask: {error}') from error
    except OSError as error:
        raise UserError(f'{error.filename or pair.mask} cannot be read: {error.strerror or error}.') from error
    try:
        image = image_files.open_image(encoded)
        image_size = image.height, image.width
    except ImageError:  # which is said when it is needed, as of any image
        image_size = None
    found = np.flatnonzero(np.bincount(values.ravel())).tolist()
    return Facts(values.shape, image_size, tuple(found), image_files.has_orientation(encoded), stamps)


def check_all(pairs: Sequence[Pair], facts: Sequence[Facts], classes: ClassSet) -> None:
    """Checks that masks have the size of their images, and values of the classes alone; `UserError` names the file."""
    table = classes.train_ids()
    known = {value for value, train_id in enumerate(table.tolist()) if train_id != UNKNOWN}
    for pair, found in zip(pairs, facts, strict=True):
        if found.image_size not in (None, found.size):
            raise UserError(f'{pair.mask} has {_by(found.size)} pixels, but {pair.image} has {_by(found.image_size)}.')
        unknown = [value for value in found.values if value not in known]
        if unknown:
            shown = ', '.join(map(str, unknown[:SHOWN_VALUES])) + (', ...' if len(unknown) > SHOWN_VALUES else '')
            raise UserError(
                f'{pair.mask} has the value {shown}, which is none of the {len(classes.names)} classes, nor ignored; '
                'see data.ignore_labels and data.remap.'
            )


def check_fits(pairs: Sequence[Pair], facts: Sequence[Facts], eval_size: tuple[int, int]) -> None:
    """Checks that no evaluation image is larger than the padded size; `UserError` names the file."""
    for pair, found in zip(pairs, facts, strict=True):
        height, width = found.size
        if height > eval_size[0] or width > eval_size[1]:
            raise UserError(
                f'{pair.image} has {_by(found.size)} pixels (height x width), more than data.eval_size={eval_size}.'
            )


def _by(size: tuple[int, int]) -> str:
    """Height x width."""
    return f'{size[0]}x{size[1]}'
