"""`predict`: what a network with published weights, or of a run of this project, sees in images."""

import argparse
import json

from mobilenets_jax.checkpoints import find_checkpoints
from mobilenets_jax.data.options import NORMALIZATIONS
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.tasks import get_task
from mobilenets_jax.weights.pretrained import task_of_source
from mobilenets_jax.weights.trained import PARAMS


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('predict', help='see images as published weights or a trained network do')
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='files: JPEG, PNG, WebP, BMP, GIF, TIFF, PPM')
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--weights', help='a file, or a name that `weights` lists')
    source.add_argument('--workdir', help='of a run; or its folder of checkpoints, or of one step; local or gs://')
    parser.add_argument('--step', metavar='N', help="of the run, or 'best'; the newest intact one by default")
    parser.add_argument('--params', choices=PARAMS, help='averaged parameters where there are any, or raw ones')
    parser.add_argument('--normalization', choices=NORMALIZATIONS, help="the input's range, where no file states it")
    parser.add_argument('--image_size', type=int, help="the input's height and width, where no file states it")
    parser.add_argument('--convention', help="whose padding and constants: 'tf' for timm's ports of TensorFlow")
    parser.add_argument('--top', type=int, help='how many classes (5 by default) or boxes to name')
    parser.add_argument('--min_score', type=float, help='of a detector: of the boxes that are named; 0.5 by default')
    parser.add_argument('--masks', metavar='DIR', help='of a segmentation network: write the classes of pixels as PNG')
    parser.add_argument('--json', action='store_true', help='print a list of objects')
    parser.add_argument('--out', metavar='PNG', help='draw the images and what is seen in them to this file')
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
