"""The classes of image files, by published weights or a trained network."""

import argparse
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mobilenets_jax.data.augmentation import normalize
from mobilenets_jax.errors import check
from mobilenets_jax.identity import CLASSIFICATION
from mobilenets_jax.inference import TrainedNetwork, freeze
from mobilenets_jax.tasks.definition import Predicted
from mobilenets_jax.tasks.image_files import read_image, report_orientations, save_figure, whole_image
from mobilenets_jax.weights.init_from import config_fields
from mobilenets_jax.weights.pretrained import Pretrained
from mobilenets_jax.weights.weight_arguments import load_weights

DEFAULT_TOP = 5  # classes that are named
PANEL_INCHES = 3.2  # height of an image in the PNG


def classify(arguments: argparse.Namespace) -> Predicted:
    """The likeliest classes of each image; see `TaskDefinition.predict`."""
    for option in ('masks', 'min_score'):
        value = getattr(arguments, option)
        check(value is None, f'--{option}', value, 'means nothing to a classifier')
    top = DEFAULT_TOP if arguments.top is None else arguments.top
    check(top > 0, '--top', top, 'must be positive')
    pretrained = load_weights(arguments)
    images = [read_image(path, pretrained.card.preprocessing) for path in arguments.images]
    report_orientations(arguments.images)
    names = pretrained.class_names
    rows = []
    for path, probabilities in zip(arguments.images, _probabilities(pretrained, np.stack(images)), strict=True):
        best = np.argsort(-probabilities, kind='stable')[:top]
        classes = [{'class': int(i), 'name': names[i], 'probability': float(probabilities[i])} for i in best]
        rows.append({'image': path, 'classes': classes})
    return Predicted(rows, '\n'.join(map(_text, rows)), functools.partial(_draw, rows))


def trained_classifier(pretrained: Pretrained) -> TrainedNetwork:
    """A classifier as it is exported."""
    preprocessing = pretrained.card.preprocessing
    return TrainedNetwork(
        model=pretrained.model,
        variables=pretrained.variables,
        task=CLASSIFICATION,
        image_size=(preprocessing.image_size, preprocessing.image_size),
        normalization=preprocessing.normalization,
        class_names=pretrained.card.class_names,
        labels=pretrained.class_names,
        labelled='images',
        config=config_fields(pretrained),
        read=functools.partial(read_image, preprocessing=preprocessing),
        ranges=pretrained.card.ranges,
    )


def _probabilities(pretrained: Pretrained, images: np.ndarray) -> np.ndarray:
    """Probabilities, float32 [n, classes], of images as `read_image` gives them, [n, size, size, 3]."""
    normalized = normalize(images, pretrained.card.preprocessing.normalization)
    logits = freeze(pretrained.model, pretrained.variables)(normalized)
    return np.asarray(jax.nn.softmax(logits))


def _text(row: dict[str, Any]) -> str:
    lines = [f'  {entry["probability"]:6.1%}  {entry["name"]}' for entry in row['classes']]
    return '\n'.join([row['image'], *lines])


def _draw(rows: Sequence[dict[str, Any]], path: str) -> None:
    """Draws each image next to the bars of its classes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * PANEL_INCHES, PANEL_INCHES * len(rows)), layout='constrained')
    panels = figure.subplots(len(rows), 2, squeeze=False, width_ratios=(1, 1.2))
    for row, (photo, chart) in zip(rows, panels, strict=True):
        photo.imshow(whole_image(row['image']))
        photo.set_title(pathlib.Path(row['image']).name, fontsize='small')
        photo.axis('off')
        percent = [100 * entry['probability'] for entry in row['classes']]
        bars = chart.barh([entry['name'] for entry in row['classes']], percent)
        chart.bar_label(bars, [f'{value:.1f} %' for value in percent], padding=3, fontsize='small')
        chart.invert_yaxis()  # the likeliest on top
        chart.set_xlim(0, 115)  # room for the labels
        chart.spines[['top', 'right', 'bottom']].set_visible(False)
        chart.set_xticks([])
    save_figure(figure, path)
