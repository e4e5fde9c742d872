"""`predict`: what a network with published weights, or of a run of this project, finds in images."""

import argparse
import json

from mobilenets_jax.checkpoints import find_checkpoints
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.tasks import get_task
from mobilenets_jax.weights.pretrained import task_of_source
from mobilenets_jax.weights.weight_arguments import add_weight_arguments


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('predict', help='say what published weights or a trained network find in images')
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='files: JPEG, PNG, WebP, BMP, GIF, TIFF, PPM')
    add_weight_arguments(parser)
    parser.add_argument('--top', type=int, help='how many classes (5 by default) or boxes to name')
    parser.add_argument('--min_score', type=float, help='of a detector: of the boxes that are named; 0.5 by default')
    parser.add_argument('--masks', metavar='DIR', help='of a segmentation network: write the classes of pixels as PNG')
    parser.add_argument('--json', action='store_true', help='print a list of objects')
    parser.add_argument('--out', metavar='PNG', help='draw the images and what is found in them to this file')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Predicts and prints, and draws where that is asked for."""
    size = arguments.image_size
    check(size is None or size > 0, '--image_size', size, 'must be positive')
    if arguments.workdir is not None and not find_checkpoints(arguments.workdir):
        raise UserError(f'--workdir={arguments.workdir!r} holds no checkpoint.')
    source = arguments.weights if arguments.workdir is None else arguments.workdir
    predicted = get_task(task_of_source(source)).predict(arguments)
    if arguments.out:
        predicted.draw(arguments.out)
    print(json.dumps(predicted.rows, indent=2) if arguments.json else predicted.text)
