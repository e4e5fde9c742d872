"""The rows of `models --task=detection`: published detectors, their figures here beside the published ones."""

import argparse
import dataclasses
from typing import Any

from mobilenets_jax.errors import UserError, check_choice
from mobilenets_jax.heads import create_detector
from mobilenets_jax.heads.published import PUBLISHED_DETECTORS, PublishedDetector
from mobilenets_jax.report.counts import count_module

HEADER = (
    *('backbone', 'tail', 'head', 'width', 'size', 'classes', 'parameters', 'without BN', 'madds'),
    *('paper: params', 'madds', 'AP', 'ms', 'source'),
)
TEXT_COLUMNS = (0, 1, 2, len(HEADER) - 1)  # flush left; the others are numbers
_NOTES = {
    '1905.02244v5 Table 6': 'prints parameters without batch norm, AP on COCO test-dev 2017, and milliseconds of an '
    'image on one large core of a Pixel 1; V1 and V2 at width 1.0 as 1801.04381 counts them, with 80 classes.',
    'MobileNeXt README@6219e33': 'AP of 80 classes is COCO val 2017, that of 20 is AP at IoU 0.5 on Pascal VOC 2007 '
    'test; 2007.02269 prints 4.3M and 0.8B for the latter, which are nearer to what 80 classes cost.',
}


def describe(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows that the parsed arguments ask for, ready for JSON.

    Returns:
        Of each: `name`, `width_multiplier`, `convention`, `tail`, `head`, `num_classes` (without the background),
        `image_size` (pixels); ours: `params`, `batch_stats`, `norm_params`, `madds`; `published`: an object of `params`
        in millions, `madds` in billions, `ap` in percent, `latency_ms`; `source`: where that is printed; `notes`: a
        list of sentences about the source.
    """
    known = {row.model for row in PUBLISHED_DETECTORS}
    for name in arguments.names:
        check_choice('detector on', name, known)
    rows = [row for row in PUBLISHED_DETECTORS if _is_asked_for(row, arguments)]
    if not rows:
        raise UserError(f'no published detector has --width={arguments.width} and --convention={arguments.convention}.')
    return [_row(published, arguments.size or published.image_size) for published in rows]


def _is_asked_for(row: PublishedDetector, arguments: argparse.Namespace) -> bool:
    names = arguments.names or [row.model]
    width = row.width_multiplier if arguments.width is None else arguments.width
    convention = arguments.convention or row.convention
    return row.model in names and (width, convention) == (row.width_multiplier, row.convention)


def _row(row: PublishedDetector, image_size: int) -> dict[str, Any]:
    printed = ('params', 'madds', 'ap', 'latency_ms')
    network = ('width_multiplier', 'convention', 'tail', 'head', 'num_classes')
    return {
        'name': row.model,
        **{name: getattr(row, name) for name in network},
        'image_size': image_size,
        **dataclasses.asdict(count_module(create_detector(**row.arguments), image_size)),
        'published': {name: getattr(row, name) for name in printed},
        'source': row.source,
        'notes': [_NOTES[row.source]] if row.source in _NOTES else [],
    }


def cells(row: dict[str, Any]) -> list[str]:
    """One line of the table."""
    published = row['published']

    def printed(name: str, unit: str = '') -> str:
        return '-' if published[name] is None else f'{published[name]:g}{unit}'

    return [
        *(row['name'], row['tail'], row['head']),
        f'{row["width_multiplier"]:g}',
        *(str(row['image_size']), str(row['num_classes'])),
        *(f'{number:,}' for number in (row['params'], row['params'] - row['norm_params'], row['madds'])),
        *(printed('params', 'M'), printed('madds', 'B'), printed('ap'), printed('latency_ms')),
        row['source'],
    ]
