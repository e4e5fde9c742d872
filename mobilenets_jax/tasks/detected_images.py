"""The objects in image files, by published weights or a trained network."""

import argparse
import functools
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from mobilenets_jax.boxes.postprocessing import postprocess
from mobilenets_jax.boxes.suppression import Detections, NmsSpec
from mobilenets_jax.data.augmentation import normalize
from mobilenets_jax.data.detection_options import DetectionOptions
from mobilenets_jax.errors import check
from mobilenets_jax.heads import chosen_head, create_detector
from mobilenets_jax.identity import DETECTION
from mobilenets_jax.inference import TrainedNetwork, freeze
from mobilenets_jax.report.detection import LEAST_SCORE, paint_detections
from mobilenets_jax.tables import output_names
from mobilenets_jax.tasks.definition import Predicted, PredictedTable
from mobilenets_jax.tasks.detector import decoding, nms_spec
from mobilenets_jax.tasks.image_files import read_whole_image, report_orientations, save_figure, whole_image
from mobilenets_jax.tasks.network import fields_of_run
from mobilenets_jax.weights.init_from import config_fields
from mobilenets_jax.weights.pretrained import Pretrained
from mobilenets_jax.weights.trained import Trained, network_of
from mobilenets_jax.weights.weight_arguments import load_weights, read_run

PyTree = Any

BACKGROUND = 'background'  # the label of anchors without an object
COLUMNS = 2
PANEL_INCHES = 6


class LoadedDetector(NamedTuple):
    """A trained detector.

    Attributes:
        model: returns codes and logits of anchors, and endpoints.
        variables: 'params' and 'batch_stats'.
        options: the size, the resize and the range of its input.
        nms: how detections are chosen.
        class_names: of its classes.
    """

    model: nn.Module
    variables: PyTree
    options: DetectionOptions
    nms: NmsSpec
    class_names: Sequence[str]


def find(arguments: argparse.Namespace) -> Predicted:
    """The boxes of the objects in each image; see `TaskDefinition.predict`."""
    loaded, least = _load(arguments)
    detect = _detector(loaded)
    images = [read_whole_image(path) for path in arguments.images]
    report_orientations(arguments.images)
    rows = [
        _row(path, image, detect(image), least, arguments.top, loaded.class_names)
        for path, image in zip(arguments.images, images, strict=True)
    ]
    text = '\n'.join(_text(row, least) for row in rows)
    return Predicted(rows, text, functools.partial(_draw, rows, loaded.class_names))


def find_table(arguments: argparse.Namespace) -> PredictedTable:
    """A row a box, and none for an image without boxes; see `TaskDefinition.predict_table`."""
    loaded, least = _load(arguments)
    detect = _batch_detector(loaded)

    def read(path: str) -> dict[str, np.ndarray]:
        image = read_whole_image(path)
        return {'image': _resized(image, loaded.options), 'size': np.array(image.shape[:2])}

    def rows(paths: Sequence[str], batch: Mapping[str, np.ndarray]) -> list[Sequence[object]]:
        found = detect(batch['image'])
        table = []
        for index, (path, size) in enumerate(zip(paths, batch['size'], strict=False)):
            of_image = Detections(*(leaf[index] for leaf in found))
            for entry in _objects(of_image, size, least, arguments.top, loaded.class_names):
                table.append([path, entry['class'], entry['name'], f'{entry["score"]:.6g}', *entry['box']])
        return table

    header = ('image', 'class', 'name', 'score', 'xmin', 'ymin', 'xmax', 'ymax')
    return PredictedTable(header, read, rows)


def _load(arguments: argparse.Namespace) -> tuple[LoadedDetector, float]:
    """The detector, and the least score of a box that is named."""
    for option in ('masks', *(('image_size',) if arguments.workdir else ())):
        value = getattr(arguments, option)
        check(value is None, f'--{option}', value, 'means nothing to a detector')
    least = LEAST_SCORE if arguments.min_score is None else arguments.min_score
    check(0 <= least <= 1, '--min_score', least, 'must be in [0, 1]')
    check(arguments.top is None or arguments.top > 0, '--top', arguments.top, 'must be positive')
    published = arguments.workdir is None
    return _published(load_weights(arguments, DETECTION)) if published else _of_a_run(read_run(arguments)), least


def trained_detector(arguments: argparse.Namespace) -> TrainedNetwork:
    """A detector as it is exported."""
    if arguments.workdir is None:
        pretrained = load_weights(arguments, DETECTION)
        loaded, class_names, config = _published(pretrained), pretrained.card.class_names, config_fields(pretrained)
    else:
        trained = read_run(arguments)
        loaded, class_names = _of_a_run(trained, arguments.image_size), trained.class_names or ()
        config = {**fields_of_run(trained, DETECTION), 'data.resize': loaded.options.resize}
    options, head = loaded.options, loaded.model.head_spec
    size = options.image_size
    return TrainedNetwork(
        model=loaded.model,
        variables=loaded.variables,
        task=DETECTION,
        image_size=size,
        normalization=options.normalization,
        class_names=class_names,
        labels=[BACKGROUND, *loaded.class_names],
        labelled='anchors',
        config={**config, 'image_size': size},
        read=lambda path: _resized(read_whole_image(path), options),
        facts=decoding(head),
        anchors=loaded.model.anchors(size),
    )


def _resized(image: np.ndarray, options: DetectionOptions) -> np.ndarray:
    """An image, uint8 [H, W, 3], at the size of a detector's input."""
    from mobilenets_jax.data.detection_preprocessing import resize

    return resize(image, options).numpy()


def _published(pretrained: Pretrained) -> LoadedDetector:
    preprocessing = pretrained.card.preprocessing
    return LoadedDetector(
        model=pretrained.model,
        variables=pretrained.variables,
        options=_options(preprocessing.image_size, preprocessing.normalization, preprocessing.resize),
        nms=nms_spec({}, pretrained.card.fields['head']),
        class_names=pretrained.class_names,
    )


def _of_a_run(trained: Trained, image_size: int | None = None) -> LoadedDetector:
    """The detector of a run, for images of another size where one is given."""
    section = trained.config.get('detection', {})
    return LoadedDetector(
        model=network_of(trained, create_detector, head_fields=trained.identity['head_fields']),
        variables=trained.variables,
        options=_options(
            image_size or tuple(trained.config['image_size']),
            trained.fields['normalization'],
            trained.config.get('data', {}).get('resize', DetectionOptions.resize),
        ),
        nms=nms_spec(section, chosen_head(section.get('head'), trained.fields['model'], trained.fields['convention'])),
        class_names=output_names(trained.class_names or (), trained.num_classes),
    )


def _options(image_size: int | tuple[int, int], normalization: str, resize: str) -> DetectionOptions:
    return DetectionOptions(image_size, batch_size=1, seed=0, normalization=normalization, resize=resize)


def _batch_detector(loaded: LoadedDetector) -> Callable[[np.ndarray], Detections]:
    """From resized images, uint8 [n, H, W, 3], to their detections, whose boxes are fractions of an image."""
    run, head = freeze(loaded.model, loaded.variables), loaded.model.head_spec
    anchors = loaded.model.anchors(loaded.options.image_size)

    @jax.jit
    def detect(images):
        outputs = run(normalize(images, loaded.options.normalization))
        return postprocess(outputs, anchors, head.coder, head.scores, loaded.nms)

    return lambda images: Detections(*map(np.asarray, detect(images)))


def _detector(loaded: LoadedDetector) -> Callable[[np.ndarray], Detections]:
    """From an image, uint8 [H, W, 3], to its detections, whose boxes are fractions of it."""
    detect = _batch_detector(loaded)
    return lambda image: Detections(*(leaf[0] for leaf in detect(_resized(image, loaded.options)[None])))


def _row(
    path: str, image: np.ndarray, found: Detections, least: float, top: int | None, names: Sequence[str]
) -> dict[str, Any]:
    """What is found in an image."""
    size = image.shape[:2]
    return {'image': path, 'size': [*size], 'objects': _objects(found, size, least, top, names)}


def _objects(
    found: Detections, size: Sequence[int], least: float, top: int | None, names: Sequence[str]
) -> list[dict[str, Any]]:
    """The objects in an image, the best first; boxes are [xmin, ymin, xmax, ymax] in pixels.

    Args:
        found: of the image.
        size: its height and width.
        least: the least score.
        top: how many at most; None: all.
        names: of the classes.
    """
    height, width = size
    shown = np.flatnonzero((found.labels >= 0) & (found.scores >= least))[:top]
    boxes = found.boxes[shown].astype(np.float64)[:, [1, 0, 3, 2]] * [width, height, width, height]
    return [
        {'class': int(label), 'name': names[label], 'score': float(score), 'box': [round(side, 2) for side in box]}
        for label, score, box in zip(found.labels[shown], found.scores[shown], boxes.tolist(), strict=True)
    ]


def _text(row: dict[str, Any], least: float) -> str:
    lines = [
        f'  {entry["score"]:6.1%}  {entry["name"]}  ({", ".join(f"{side:.0f}" for side in entry["box"])})'
        for entry in row['objects']
    ]
    return '\n'.join([row['image'], *(lines or [f'  nothing with a score of {least:g} or more'])])


def _draw(rows: Sequence[dict[str, Any]], names: Sequence[str], out: str) -> None:
    """Draws each image with the boxes, names and scores of its detections."""
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(rows))
    lines = math.ceil(len(rows) / columns)
    figure = Figure(figsize=(PANEL_INCHES * columns, 0.8 * PANEL_INCHES * lines), layout='constrained')
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel in panels:
        panel.axis('off')
    for row, panel in zip(rows, panels, strict=False):
        image = np.asarray(whole_image(row['image']))
        (height, width), objects = row['size'], row['objects']
        corners = np.array([entry['box'] for entry in objects], np.float64).reshape(-1, 4)[:, [1, 0, 3, 2]]
        boxes = corners * np.tile(np.divide(image.shape[:2], (height, width)), 2)
        scores, labels = (np.array([entry[name] for entry in objects]) for name in ('score', 'class'))
        panel.imshow(paint_detections(image, boxes, scores, labels, names))
        panel.set_title(pathlib.Path(row['image']).name, fontsize='small')
    save_figure(figure, out)
