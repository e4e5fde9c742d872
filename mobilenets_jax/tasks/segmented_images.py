"""The classes of the pixels of image files, by a trained network or published weights."""

import argparse
import functools
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from mobilenets_jax.data.augmentation import normalize
from mobilenets_jax.data.class_sets import CLASS_SETS, Colour, voc_colour
from mobilenets_jax.data.segmentation_options import SegmentationOptions, sides
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.heads import create_segmenter
from mobilenets_jax.identity import SEGMENTATION
from mobilenets_jax.inference import TrainedNetwork
from mobilenets_jax.report.segmentation import paint
from mobilenets_jax.tables import output_names
from mobilenets_jax.tasks.definition import Predicted
from mobilenets_jax.tasks.image_files import read_whole_image, report_orientations, save_figure
from mobilenets_jax.tasks.network import fields_of_run
from mobilenets_jax.training.segmentation import SegmentationTask
from mobilenets_jax.weights.init_from import config_fields
from mobilenets_jax.weights.pretrained import Pretrained
from mobilenets_jax.weights.trained import Trained, network_of
from mobilenets_jax.weights.weight_arguments import load_weights, read_run

PyTree = Any

PANEL_INCHES = 4
NAMED_SHARE = 0.005  # of the pixels; rarer classes are not in the legend


class LoadedSegmenter(NamedTuple):
    """A trained segmentation network.

    Attributes:
        model: returns the logits of each pixel, and endpoints.
        variables: 'params' and 'batch_stats'.
        normalization: of its input, a key of `data.options.NORMALIZATIONS`.
        class_names: of its classes.
        palette: their colours.
        eval_size: height and width to which its evaluation pads images; None: not known.
        eval_resize: the long side to which images are resized and then padded to a square; 0: they keep their size.
        eval_scales: see `SegmentationTask`.
        eval_flip: as well.
    """

    model: nn.Module
    variables: PyTree
    normalization: str
    class_names: Sequence[str]
    palette: Sequence[Colour]
    eval_size: tuple[int, int] | None = None
    eval_resize: int = 0
    eval_scales: tuple[float, ...] = (1.0,)
    eval_flip: bool = False


def segment(arguments: argparse.Namespace) -> Predicted:
    """The class of each pixel of each image; see `TaskDefinition.predict`."""
    for option in ('top', 'min_score', *(('image_size',) if arguments.workdir else ())):
        value = getattr(arguments, option)
        check(value is None, f'--{option}', value, 'means nothing to a segmentation network')
    published = arguments.workdir is None
    loaded = _published(load_weights(arguments, SEGMENTATION)) if published else _of_a_run(read_run(arguments))
    images = [read_whole_image(path) for path in arguments.images]
    report_orientations(arguments.images)
    masks = _masks(loaded, images)
    rows = [_row(path, mask, loaded.class_names) for path, mask in zip(arguments.images, masks, strict=True)]
    if arguments.masks:
        for row, mask in zip(rows, masks, strict=True):
            row['mask'] = _write_mask(arguments.masks, row['image'], mask, loaded.palette)
    draw = functools.partial(_draw, arguments.images, images, masks, loaded)
    return Predicted(rows, '\n'.join(map(_text, rows)), draw)


def trained_segmenter(arguments: argparse.Namespace) -> TrainedNetwork:
    """A segmentation network as it is exported: of images of one size, each computed once."""
    if arguments.workdir is None:
        pretrained = load_weights(arguments, SEGMENTATION)
        loaded, resize = _published(pretrained), pretrained.card.preprocessing.image_size
        class_names, config = pretrained.card.class_names, config_fields(pretrained)
    else:
        trained = read_run(arguments)
        loaded = _of_a_run(trained)
        resize = arguments.image_size or loaded.eval_resize
        class_names, config = trained.class_names or (), fields_of_run(trained, SEGMENTATION)
        _report_views(loaded)
    size = (resize, resize) if resize else loaded.eval_size
    if size is None:
        raise UserError(f'{arguments.workdir!r} does not set data.eval_size: give the file a size by --image_size.')
    # Images that are not resized are padded to the size.
    places = {'data.eval_resize': resize} if resize else {'data.eval_resize': 0, 'data.eval_size': size}
    once = {'segmentation.eval_scales': (1.0,), 'segmentation.eval_flip': False, 'segmentation.class_weights': ()}
    return TrainedNetwork(
        model=loaded.model,
        variables=loaded.variables,
        task=SEGMENTATION,
        image_size=size,
        normalization=loaded.normalization,
        class_names=class_names,
        labels=loaded.class_names,
        labelled='pixels',
        config={**config, **places, **once},
        read=lambda path: _fitted(read_whole_image(path), size, resize, loaded.normalization),
    )


def _report_views(loaded: LoadedSegmenter) -> None:
    if (loaded.eval_scales, loaded.eval_flip) != ((1.0,), False):
        views = f'segmentation.eval_scales={loaded.eval_scales} and eval_flip={loaded.eval_flip}'
        print(f'the run is evaluated with {views}; the file computes each image once, as it is', file=sys.stderr)


def _fitted(image: np.ndarray, size: tuple[int, int], resize: int, normalization: str) -> np.ndarray:
    """An image, uint8 [H, W, 3], at a size: resized and padded as in evaluation, or padded or cut off."""
    from mobilenets_jax.data.segmentation_preprocessing import fit_into, pad_image

    if resize:
        image, _ = fit_into(image, resize, image.shape[:2])
    return pad_image(image[: size[0], : size[1]], size, _mean_pixel(normalization)).numpy()


def _mean_pixel(normalization: str) -> tuple[int, int, int]:
    return SegmentationOptions(1, 1, 0, normalization).mean_pixel


def _published(pretrained: Pretrained) -> LoadedSegmenter:
    preprocessing, names = pretrained.card.preprocessing, pretrained.class_names
    return LoadedSegmenter(
        model=pretrained.model,
        variables=pretrained.variables,
        normalization=preprocessing.normalization,
        class_names=names,
        palette=_palette(names),
        eval_resize=preprocessing.image_size if preprocessing.crop == 'padded' else 0,
    )


def _palette(names: Sequence[str]) -> Sequence[Colour]:
    """The colours of the class set that has these names, else Pascal VOC's."""
    known = (classes.palette for classes in CLASS_SETS.values() if list(classes.names) == list(names))
    return next(known, [*map(voc_colour, range(len(names)))])


def _of_a_run(trained: Trained) -> LoadedSegmenter:
    identity = trained.identity
    model = network_of(trained, create_segmenter, head=identity['head'], head_fields=identity['head_fields'])
    data, evaluation = (trained.config.get(section, {}) for section in ('data', 'segmentation'))
    names = output_names(trained.class_names or (), trained.num_classes)
    palette = [tuple(colour) for colour in data.get('palette') or ()]
    eval_size = data.get('eval_size')
    return LoadedSegmenter(
        model=model,
        variables=trained.variables,
        normalization=trained.fields['normalization'],
        class_names=names,
        palette=palette or _palette(names),
        eval_size=sides('data.eval_size', eval_size) if eval_size else None,
        eval_resize=data.get('eval_resize', 0),
        eval_scales=tuple(evaluation.get('eval_scales', (1.0,))),
        eval_flip=evaluation.get('eval_flip', False),
    )


def _masks(loaded: LoadedSegmenter, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The class of each pixel, uint8 [H, W], of images uint8 [H, W, 3], found as in the network's evaluation."""
    from mobilenets_jax.data.segmentation_preprocessing import fit_into, pad_image

    task = SegmentationTask(
        model=loaded.model,
        preprocess=lambda image, train: normalize(image[None], loaded.normalization),
        eval_scales=loaded.eval_scales,
        eval_flip=loaded.eval_flip,
    )

    @jax.jit
    def classify(image, params, batch_stats):
        images = task.preprocess(image, train=False)
        return task.log_probabilities(params, batch_stats, images)[0].argmax(axis=-1)

    variables = loaded.variables['params'], loaded.variables['batch_stats']
    mean = _mean_pixel(loaded.normalization)
    masks = []
    for image in images:
        size, padded_size, places = image.shape[:2], image.shape[:2], None
        if loaded.eval_resize:
            image, places = fit_into(image, loaded.eval_resize, size)
            padded_size = loaded.eval_resize, loaded.eval_resize
        elif loaded.eval_size and all(side <= most for side, most in zip(size, loaded.eval_size, strict=True)):
            padded_size = loaded.eval_size
        found = np.asarray(classify(pad_image(image, padded_size, mean).numpy(), *variables)).astype(np.uint8)
        if places is None:
            masks.append(found[: size[0], : size[1]])
        else:
            masks.append(found[places['rows'].numpy()][:, places['columns'].numpy()])
    return masks


def _row(path: str, mask: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    counts = np.bincount(mask.ravel(), minlength=len(names))
    order = np.argsort(-counts, kind='stable')
    classes = [{'class': int(i), 'name': names[i], 'share': counts[i] / mask.size} for i in order if counts[i]]
    return {'image': path, 'size': [*mask.shape], 'classes': classes}


def _text(row: dict[str, Any]) -> str:
    lines = [f'  {entry["share"]:6.1%}  {entry["name"]}' for entry in row['classes']]
    return '\n'.join([row['image'], *lines, *([f'  mask: {row["mask"]}'] if 'mask' in row else [])])


def _write_mask(folder: str, image: str, mask: np.ndarray, palette: Sequence[Colour]) -> str:
    """Writes a PNG whose values are classes and whose palette has their colours; its path."""
    from PIL import Image

    path = pathlib.Path(folder, f'{pathlib.Path(image).stem}.png')
    picture = Image.fromarray(mask, mode='P')
    picture.putpalette([level for colour in palette for level in colour])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except OSError as error:
        raise UserError(f'--masks={folder!r} cannot be written: {error.strerror or error}.') from error
    return str(path)


def _draw(
    paths: Sequence[str],
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    loaded: LoadedSegmenter,
    out: str,
) -> None:
    """Draws each image next to the classes of its pixels, with a legend."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(3.2 * PANEL_INCHES, PANEL_INCHES * 0.8 * len(images)), layout='constrained')
    panels = figure.subplots(len(images), 3, squeeze=False, width_ratios=(1, 1, 0.35))
    for path, image, mask, (photo, overlay, legend) in zip(paths, images, masks, panels, strict=True):
        photo.imshow(image)
        photo.set_title(pathlib.Path(path).name, fontsize='small')
        overlay.imshow(paint(image[None], mask[None], loaded.palette)[0])
        shares = np.bincount(mask.ravel(), minlength=len(loaded.class_names)) / mask.size
        shown = [label for label in np.argsort(-shares) if shares[label] >= NAMED_SHARE]
        patches = [
            Patch(color=np.array(loaded.palette[label]) / 255, label=f'{loaded.class_names[label]} {shares[label]:.0%}')
            for label in shown
        ]
        legend.legend(handles=patches, loc='center left', frameon=False, fontsize='small')
        for axes in (photo, overlay, legend):
            axes.axis('off')
    save_figure(figure, out)
