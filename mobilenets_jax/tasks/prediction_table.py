"""A table of what a network makes of many image files, batch by batch: all of them are never in memory at once."""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mobilenets_jax.data import image_files
from mobilenets_jax.data.folder_index import describe, join, list_images
from mobilenets_jax.errors import UserError
from mobilenets_jax.tasks.definition import PredictedTable
from mobilenets_jax.tasks.image_files import has_orientation

BATCH_IMAGES = 32  # of one shape, so that one program is compiled


def find_images(paths: Sequence[str]) -> list[str]:
    """The files among `paths`, and the images in the folders among them at any depth, each folder's sorted.

    Files in folders whose names are those of no images are left out, with a line on standard error.

    Raises:
        UserError: a folder holds no images.
    """
    found, left_out = [], Counter()
    for path in paths:
        if not os.path.isdir(path):
            found.append(path)
            continue
        listing = list_images(path, 'IMAGE')
        found += [join(path, file) for file in listing.files]
        left_out.update(listing.left_out)
    if left_out:
        print(f'left out {left_out.total()} files that are no images: {describe(left_out)}', file=sys.stderr)
    return found


def rows_of(table: PredictedTable, paths: Sequence[str]) -> Iterator[Sequence[object]]:
    """The rows of a table, the header first; in the end a line says how many images could not be read.

    Raises:
        UserError: none of the images can be read.
    """
    yield table.header
    unreadable, orientations = [], 0
    with ThreadPoolExecutor(os.cpu_count()) as readers:
        for start in range(0, len(paths), BATCH_IMAGES):
            of_batch = paths[start : start + BATCH_IMAGES]
            read = list(zip(of_batch, readers.map(lambda path: _read(table, path), of_batch), strict=True))
            unreadable += [found for _, found in read if isinstance(found, UserError)]
            images = [(path, found) for path, found in read if not isinstance(found, UserError)]
            orientations += sum(has_orientation(path) for path, _ in images)
            if images:
                yield from table.rows([path for path, _ in images], _stacked([found for _, found in images]))
    image_files.report_orientations(orientations)
    if len(unreadable) == len(paths):
        raise UserError(f'none of {len(paths)} images can be read, first: {unreadable[0]}')
    if unreadable:
        first = f'left out {len(unreadable)} of {len(paths)} images that cannot be read, first: {unreadable[0]}'
        print(first, file=sys.stderr)


def _read(table: PredictedTable, path: str) -> dict[str, np.ndarray] | UserError:
    try:
        return table.read(path)
    except UserError as error:
        return error


def _stacked(examples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of a batch, filled up with its first image."""
    padded = [*examples, *[examples[0]] * (BATCH_IMAGES - len(examples))]
    return {name: np.stack([example[name] for example in padded]) for name in examples[0]}
