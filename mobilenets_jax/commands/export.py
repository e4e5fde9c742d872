"""`export`: a network of any task, with published weights or of a run, as a TFLite file, float or in 8 bit."""

import argparse
import os
import pathlib
import sys

import numpy as np

from mobilenets_jax.config import write_bytes
from mobilenets_jax.data.folder_index import join, list_images
from mobilenets_jax.errors import UserError, check, needed
from mobilenets_jax.export.calibration import WHOLE
from mobilenets_jax.export.exporting import NONE, Exported, export
from mobilenets_jax.export.images import spread
from mobilenets_jax.export.packages import PACKAGES
from mobilenets_jax.export.quantization import RECIPES
from mobilenets_jax.inference import TrainedNetwork
from mobilenets_jax.tasks import get_task
from mobilenets_jax.weights.pretrained import task_of_source
from mobilenets_jax.weights.weight_arguments import add_weight_arguments


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('export', help='write a network as a TFLite file, float or in 8 bit')
    add_weight_arguments(parser)
    parser.add_argument('--out', required=True, metavar='F.tflite', help='the file to write')
    parser.add_argument(
        '--quantize',
        default=NONE,
        choices=(NONE, *RECIPES),
        help='int8: all in 8 bit, by --calibration; dynamic: weights in 8 bit, activations rounded image by image; '
        'weights: weights in 8 bit, computed in float',
    )
    parser.add_argument('--calibration', metavar='DIR', help='real images, in any folders: JPEG, PNG, WebP, ...')
    parser.add_argument('--percentile', type=float, help='of the activations of an image in the range; 100 by default')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Exports and prints what was made."""
    _check(arguments)
    for package in PACKAGES:
        needed(package)
    source = arguments.weights if arguments.workdir is None else arguments.workdir
    network = get_task(task_of_source(source)).trained_network(arguments)
    pixels = None if arguments.calibration is None else _pixels(arguments.calibration, network)
    percentile = WHOLE if arguments.percentile is None else arguments.percentile
    exported = export(network, arguments.quantize, pixels, percentile)
    write_bytes(arguments.out, exported.content)
    print(text(arguments, network, exported))


def _check(arguments: argparse.Namespace) -> None:
    size, folder = arguments.image_size, pathlib.Path(arguments.out).parent
    check(size is None or size > 0, '--image_size', size, 'must be positive')
    check(arguments.out.endswith('.tflite'), '--out', arguments.out, 'must end with .tflite')
    check(folder.is_dir(), '--out', arguments.out, 'is in no folder that exists')
    if arguments.quantize == 'int8' and arguments.calibration is None:
        raise UserError(
            '--quantize=int8 needs --calibration=DIR, a folder of some 100 real images of the kind to come.'
        )
    has_ranges = arguments.quantize == 'int8' or arguments.percentile is None
    check(has_ranges, '--percentile', arguments.percentile, f'has no effect with --quantize={arguments.quantize}')


def _pixels(directory: str, network: TrainedNetwork) -> np.ndarray:
    """Images of a folder, as the network's evaluation has them, uint8 [n, H, W, 3]."""
    folder = os.path.expanduser(directory)
    check(os.path.isdir(folder), '--calibration', directory, 'is no folder')
    found = [join(folder, file) for file in list_images(folder, '--calibration').files]
    chosen = spread(found)
    if len(chosen) < len(found):
        print(f'--calibration: {len(chosen)} of {len(found)} images are taken, evenly spread', file=sys.stderr)
    return np.stack([network.read(path) for path in chosen])


def text(arguments: argparse.Namespace, network: TrainedNetwork, exported: Exported) -> str:
    """What was made, a line for each fact."""
    of_float, of_quantized = exported.float_agreement, exported.quantized_agreement
    operations = ', '.join(f'{name} {count}' for name, count in exported.operations.items())
    name, width, convention = (network.config[f'model.{field}'] for field in ('name', 'width_multiplier', 'convention'))
    size = 'x'.join(map(str, network.image_size))
    lines = [
        f'network:     {network.task}: {name} {width:g} ({convention}), {size} px, range {network.normalization}',
        f'operations:  {sum(exported.operations.values())}: {operations}',
        f'delegates:   {exported.delegates} (XNNPACK on this machine; 1 is the whole graph)',
        f'conversion:  differs by {of_float.difference:.1e} of the largest number on {of_float.images} images',
    ]
    if of_quantized is not None:
        other = 'the network as it was trained for 8 bit' if exported.learned_ranges else 'the float file'
        lines.append(
            f'quantized:   {arguments.quantize}; on {of_quantized.images} images the same class as {other} for '
            f'{of_quantized.same_class:.1f} % of the {network.labelled}, correlation of the outputs '
            f'{of_quantized.correlation:.3f}'
        )
    if exported.learned_ranges:
        lines.append(f'ranges:      of {exported.learned_ranges} tensors learned in training, of the others calibrated')
    return '\n'.join([*lines, f'file:        {arguments.out}, {len(exported.content):,} bytes'])
