"""`predict`: what a network with published weights, or of a run of this project, sees in images."""

import argparse
import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mobilenets_jax.checkpoints import find_checkpoints
from mobilenets_jax.data import image_files
from mobilenets_jax.data.options import NORMALIZATIONS
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.inference import freeze
from mobilenets_jax.weights.cards import Preprocessing
from mobilenets_jax.weights.pretrained import load_pretrained
from mobilenets_jax.weights.trained import PARAMS, parse_step

PANEL_INCHES = 3.2  # height of an image in the PNG
MAX_DRAWN_PIXELS = 1024  # of a side; Matplotlib takes many times the memory of what it draws


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('predict', help='classify images with published weights or a trained network')
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='files: JPEG, PNG, WebP, BMP, GIF, TIFF, PPM')
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--weights', help='a file, or a name that `weights` lists')
    source.add_argument('--workdir', help='of a run; or its folder of checkpoints, or of one step; local or gs://')
    parser.add_argument('--step', metavar='N', help="of the run, or 'best'; the newest intact one by default")
    parser.add_argument('--params', choices=PARAMS, help='averaged parameters where there are any, or raw ones')
    parser.add_argument('--normalization', choices=NORMALIZATIONS, help="the input's range, where no file states it")
    parser.add_argument('--image_size', type=int, help="the input's height and width, where no file states it")
    parser.add_argument('--convention', help="whose padding and constants: 'tf' for timm's ports of TensorFlow")
    parser.add_argument('--top', type=int, default=5, help='how many classes to name')
    parser.add_argument('--json', action='store_true', help='print a list of objects')
    parser.add_argument('--out', metavar='PNG', help='draw the images and their classes to this file')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Predicts and prints, and draws where that is asked for."""
    check(arguments.top > 0, '--top', arguments.top, 'must be positive')
    check(
        arguments.image_size is None or arguments.image_size > 0,
        '--image_size',
        arguments.image_size,
        'must be positive',
    )
    if arguments.workdir is not None and not find_checkpoints(arguments.workdir):
        raise UserError(f'--workdir={arguments.workdir!r} holds no checkpoint.')
    pretrained = load_pretrained(
        arguments.weights if arguments.workdir is None else arguments.workdir,
        convention=arguments.convention,
        image_size=arguments.image_size,
        value_range=arguments.normalization,
        step=parse_step(arguments.step),
        params=arguments.params,
    )
    images = [read_image(path, pretrained.card.preprocessing) for path in arguments.images]
    image_files.report_orientations(sum(image_files.has_orientation(_read_bytes(path)) for path in arguments.images))
    names = pretrained.class_names
    rows = []
    for path, probabilities in zip(arguments.images, predict(pretrained, np.stack(images)), strict=True):
        best = np.argsort(-probabilities, kind='stable')[: arguments.top]
        classes = [{'class': int(i), 'name': names[i], 'probability': float(probabilities[i])} for i in best]
        rows.append({'image': path, 'classes': classes})
    if arguments.out:
        draw(rows, arguments.out)
    print(json.dumps(rows, indent=2) if arguments.json else '\n'.join(map(_text, rows)))


def read_image(path: str, preprocessing: Preprocessing) -> np.ndarray:
    """The view of an image file that is evaluated, uint8 [size, size, 3]."""
    from mobilenets_jax.data.options import ImageOptions
    from mobilenets_jax.data.preprocessing import eval_image

    options = ImageOptions(
        image_size=preprocessing.image_size,
        eval_crop=preprocessing.crop,
        crop_fraction=preprocessing.crop_fraction,
        interpolation=preprocessing.interpolation,
    )
    return _pixels(path, lambda encoded: eval_image(encoded, options))


def _pixels(path: str, decode: Callable) -> np.ndarray:
    """What `decode`, a function of TensorFlow, makes of the bytes of an image file."""
    import tensorflow as tf

    from mobilenets_jax.data.host_pipeline import reason

    try:
        return decode(tf.constant(_read_bytes(path))).numpy()
    except (image_files.ImageError, tf.errors.OpError) as error:
        raise UserError(f'image {path!r} cannot be read: {reason(error)}') from error


def _read_bytes(path: str) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise UserError(f'image {path!r} cannot be read: {error.strerror}.') from error


def predict(pretrained, images: np.ndarray) -> np.ndarray:
    """Probabilities, float32 [n, classes], of images as `read_image` gives them, [n, size, size, 3]."""
    from mobilenets_jax.data.augmentation import normalize

    normalized = normalize(images, pretrained.card.preprocessing.value_range)
    logits = freeze(pretrained.model, pretrained.variables)(normalized)
    return np.asarray(jax.nn.softmax(logits))


def _text(row: dict[str, Any]) -> str:
    lines = [f'  {entry["probability"]:6.1%}  {entry["name"]}' for entry in row['classes']]
    return '\n'.join([row['image'], *lines])


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """Draws each image beside the bars of its classes; raises `UserError` where the file cannot be written."""
    from matplotlib.figure import Figure
    from PIL import Image

    from mobilenets_jax.data.preprocessing import EXACT, decode

    whole_image = functools.partial(decode, **EXACT)
    figure = Figure(figsize=(3 * PANEL_INCHES, PANEL_INCHES * len(rows)), layout='constrained')
    panels = figure.subplots(len(rows), 2, squeeze=False, width_ratios=(1, 1.2))
    for row, (photo, chart) in zip(rows, panels, strict=True):
        image = Image.fromarray(_pixels(row['image'], whole_image))  # as the network sees it: not turned upright
        image.thumbnail((MAX_DRAWN_PIXELS, MAX_DRAWN_PIXELS))
        photo.imshow(image)
        photo.set_title(pathlib.Path(row['image']).name, fontsize='small')
        photo.axis('off')
        percent = [100 * entry['probability'] for entry in row['classes']]
        bars = chart.barh([entry['name'] for entry in row['classes']], percent)
        chart.bar_label(bars, [f'{value:.1f} %' for value in percent], padding=3, fontsize='small')
        chart.invert_yaxis()  # the likeliest on top
        chart.set_xlim(0, 115)  # room for the labels
        chart.spines[['top', 'right', 'bottom']].set_visible(False)
        chart.set_xticks([])
    try:
        figure.savefig(path, dpi=100)
    except (OSError, ValueError) as error:
        raise UserError(f'--out={path!r} cannot be written: {error}.') from error
