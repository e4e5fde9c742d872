"""`predict`: what a network with published weights, or of a run of this project, finds in images."""

import argparse
import json
import os
import pathlib

from mobilenets_jax.checkpoints import find_checkpoints
from mobilenets_jax.config import write_bytes
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.tables import comma_separated
from mobilenets_jax.tasks import get_task
from mobilenets_jax.tasks.definition import TaskDefinition
from mobilenets_jax.tasks.prediction_table import find_images, rows_of
from mobilenets_jax.weights.pretrained import task_of_source
from mobilenets_jax.weights.weight_arguments import add_weight_arguments


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('predict', help='say what published weights or a trained network find in images')
    formats = 'files: JPEG, PNG, WebP, BMP, GIF, TIFF, PPM; with --csv also folders of them'
    parser.add_argument('images', nargs='+', metavar='IMAGE', help=formats)
    add_weight_arguments(parser)
    parser.add_argument('--top', type=int, help='how many classes (5 by default, 1 with --csv) or boxes to name')
    parser.add_argument('--min_score', type=float, help='of a detector: of the boxes that are named; 0.5 by default')
    parser.add_argument('--masks', metavar='DIR', help='of a segmentation network: write the classes of pixels as PNG')
    output = parser.add_mutually_exclusive_group()
    output.add_argument('--json', action='store_true', help='print a list of objects')
    output.add_argument('--csv', metavar='FILE', help='write a table: a row for each image, of a detector for each box')
    parser.add_argument('--out', metavar='PNG', help='draw the images and what is found in them to this file')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Predicts and prints, and draws where that is asked for."""
    size = arguments.image_size
    check(size is None or size > 0, '--image_size', size, 'must be positive')
    if arguments.workdir is not None and not find_checkpoints(arguments.workdir):
        raise UserError(f'--workdir={arguments.workdir!r} holds no checkpoint.')
    source = arguments.weights if arguments.workdir is None else arguments.workdir
    task = get_task(task_of_source(source))
    if arguments.csv is not None:
        _write_table(task, arguments)
        return
    for path in arguments.images:
        check(not os.path.isdir(path), 'IMAGE', path, 'is a folder: that needs --csv=FILE')
    predicted = task.predict(arguments)
    if arguments.out:
        predicted.draw(arguments.out)
    print(json.dumps(predicted.rows, indent=2) if arguments.json else predicted.text)


def _write_table(task: TaskDefinition, arguments: argparse.Namespace) -> None:
    """Writes what is found in all images, whole or not at all."""
    path = arguments.csv
    check(arguments.out is None, '--out', arguments.out, 'has no effect with --csv')
    if '://' not in path:
        check(pathlib.Path(path).parent.is_dir(), '--csv', path, 'is in no folder that exists')
        check(not pathlib.Path(path).is_dir(), '--csv', path, 'is a folder')
    images = find_images(arguments.images)
    header, *rows = rows_of(task.predict_table(arguments), images)
    write_bytes(path, comma_separated([header, *rows]))
    print(f'{len(images)} images, {len(rows)} rows: {path}')
