"""The classes of image files, by published weights or a trained network."""

import argparse
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mobilenets_jax.data.augmentation import normalize
from mobilenets_jax.errors import check
from mobilenets_jax.identity import CLASSIFICATION
from mobilenets_jax.inference import TrainedNetwork, freeze
from mobilenets_jax.tasks.definition import Predicted, PredictedTable
from mobilenets_jax.tasks.image_files import read_image, report_orientations, save_figure, whole_image
from mobilenets_jax.weights.init_from import config_fields
from mobilenets_jax.weights.pretrained import Pretrained
from mobilenets_jax.weights.weight_arguments import load_weights

DEFAULT_TOP = 5  # classes that are named
DEFAULT_TOP_OF_TABLE = 1
PANEL_INCHES = 3.2  # height of an image in the PNG


def classify(arguments: argparse.Namespace) -> Predicted:
    """The likeliest classes of each image; see `TaskDefinition.predict`."""
    top = _top(arguments, DEFAULT_TOP)
    pretrained = load_weights(arguments)
    images = [read_image(path, pretrained.card.preprocessing) for path in arguments.images]
    report_orientations(arguments.images)
    names = pretrained.class_names
    rows = []
    for path, probabilities in zip(arguments.images, _network(pretrained)(np.stack(images)), strict=True):
        classes = [
            {'class': label, 'name': names[label], 'probability': float(probabilities[label])}
            for label in _likeliest(probabilities, top)
        ]
        rows.append({'image': path, 'classes': classes})
    return Predicted(rows, '\n'.join(map(_text, rows)), functools.partial(_draw, rows))


def classify_table(arguments: argparse.Namespace) -> PredictedTable:
    """A row an image, with its likeliest classes; see `TaskDefinition.predict_table`."""
    top = _top(arguments, DEFAULT_TOP_OF_TABLE)
    pretrained = load_weights(arguments)
    names, network = pretrained.class_names, _network(pretrained)
    top = min(top, len(names))
    numbers = ['', *(f'_{number}' for number in range(2, top + 1))]

    def rows(paths: Sequence[str], batch: Mapping[str, np.ndarray]) -> list[Sequence[object]]:
        found = []
        for path, probabilities in zip(paths, network(batch['image']), strict=False):
            labels = _likeliest(probabilities, top)
            found.append([path, *(cell for i in labels for cell in (i, names[i], f'{probabilities[i]:.6g}'))])
        return found

    return PredictedTable(
        header=['image', *(f'{name}{number}' for number in numbers for name in ('class', 'name', 'probability'))],
        read=lambda path: {'image': read_image(path, pretrained.card.preprocessing)},
        rows=rows,
    )


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


def _top(arguments: argparse.Namespace, default: int) -> int:
    """How many classes are named."""
    for option in ('masks', 'min_score'):
        value = getattr(arguments, option)
        check(value is None, f'--{option}', value, 'means nothing to a classifier')
    top = default if arguments.top is None else arguments.top
    check(top > 0, '--top', top, 'must be positive')
    return top


def _network(pretrained: Pretrained) -> Callable[[np.ndarray], np.ndarray]:
    """From images as `read_image` gives them, [n, size, size, 3], to probabilities, float32 [n, classes]."""
    logits = freeze(pretrained.model, pretrained.variables)
    normalization = pretrained.card.preprocessing.normalization
    return lambda images: np.asarray(jax.nn.softmax(logits(normalize(images, normalization))))


def _likeliest(probabilities: np.ndarray, count: int) -> list[int]:
    """The labels of the highest probabilities, the highest first."""
    return np.argsort(-probabilities, kind='stable')[:count].tolist()


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
