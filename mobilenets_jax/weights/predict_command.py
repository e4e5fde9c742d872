"""`predict`: what a network with published weights sees in images."""

import argparse
import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np

from mobilenets_jax.data.options import NORMALIZATIONS
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.weights.cards import Preprocessing
from mobilenets_jax.weights.imagenet import class_names
from mobilenets_jax.weights.pretrained import load_pretrained

PANEL_INCHES = 3.2  # height of an image in the PNG


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('predict', help='classify images with published weights')
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='JPEG or PNG files')
    parser.add_argument('--weights', required=True, help='a file, or a name that `weights` lists')
    parser.add_argument('--normalization', choices=NORMALIZATIONS, help="the input's range, where no file states it")
    parser.add_argument('--convention', help="whose padding and constants: 'tf' for timm's ports of TensorFlow")
    parser.add_argument('--top', type=int, default=5, help='how many classes to name')
    parser.add_argument('--json', action='store_true', help='print a list of objects')
    parser.add_argument('--out', metavar='PNG', help='draw the images and their classes to this file')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Predicts and prints, and draws where that is asked for."""
    check(arguments.top > 0, '--top', arguments.top, 'must be positive')
    pretrained = load_pretrained(arguments.weights, convention=arguments.convention)
    if arguments.normalization:
        preprocessing = dataclasses.replace(pretrained.card.preprocessing, value_range=arguments.normalization)
        pretrained = pretrained._replace(card=dataclasses.replace(pretrained.card, preprocessing=preprocessing))
    images = [read_image(path, pretrained.card.preprocessing) for path in arguments.images]
    names = class_names(pretrained.model.num_classes)
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
    import tensorflow as tf

    from mobilenets_jax.data.options import ImageOptions
    from mobilenets_jax.data.preprocessing import eval_image

    options = ImageOptions(
        image_size=preprocessing.image_size,
        eval_crop=preprocessing.crop,
        crop_fraction=preprocessing.crop_fraction,
        interpolation=preprocessing.interpolation,
    )
    try:
        return eval_image(tf.constant(pathlib.Path(path).read_bytes()), options).numpy()
    except OSError as error:
        raise UserError(f'image {path!r} cannot be read: {error.strerror}.') from error
    except tf.errors.OpError as error:
        raise UserError(f'image {path!r} is no JPEG or PNG that can be decoded.') from error


def predict(pretrained, images: np.ndarray) -> np.ndarray:
    """Probabilities, float32 [n, classes], of images as `read_image` gives them, [n, size, size, 3]."""
    from mobilenets_jax.data.augmentation import normalize

    normalized = normalize(images, pretrained.card.preprocessing.value_range)
    logits, _ = jax.jit(pretrained.model.apply, static_argnames='train')(pretrained.variables, normalized, train=False)
    return np.asarray(jax.nn.softmax(logits))


def _text(row: dict[str, Any]) -> str:
    lines = [f'  {entry["probability"]:6.1%}  {entry["name"]}' for entry in row['classes']]
    return '\n'.join([row['image'], *lines])


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """Draws each image beside the bars of its classes; raises `UserError` where the file cannot be written."""
    from matplotlib.figure import Figure
    from PIL import Image, ImageOps

    figure = Figure(figsize=(3 * PANEL_INCHES, PANEL_INCHES * len(rows)), layout='constrained')
    panels = figure.subplots(len(rows), 2, squeeze=False, width_ratios=(1, 1.2))
    for row, (photo, chart) in zip(rows, panels, strict=True):
        with Image.open(row['image']) as image:
            photo.imshow(ImageOps.exif_transpose(image).convert('RGB'))
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
