"""Classification data: exact, deterministic and resumable input, from memory, image folders and TFDS.

    dataset = create_dataset('digits', image_size=32, batch_size=64, seed=0)
    for batch in dataset.train_batches(Layout(process_index=0, process_count=1, local_device_count=8)):
        ...

The order of the examples is a function of the seed alone, and every random choice one of (seed, epoch, index of the
example), so that runs can be stopped, resumed and laid out on other hosts without changing what the model sees.
TensorFlow is imported when a data set is created that needs it, and not before.
"""

import importlib
from types import ModuleType

from mobilenets_jax.data import augmentation
from mobilenets_jax.data.dataset import Dataset, Options
from mobilenets_jax.data.order import Layout
from mobilenets_jax.errors import UserError, check, check_choice

__all__ = ['Dataset', 'Layout', 'create_dataset']

SOURCES = ('digits', 'image_folder', 'records', 'tfds:NAME')
_TFDS_PREFIX = 'tfds:'


def create_dataset(
    name: str,
    *,
    image_size: int,
    batch_size: int,
    seed: int,
    normalization: str = 'symmetric',
    directory: str = '',
    eval_split: str = '',
    crop: str = 'inception',
    min_area_fraction: float = 0.05,
    random_flip: bool = True,
    color_distortion: str = 'fast',
    eval_crop: str = 'central_fraction',
    crop_fraction: float = 0.875,
    interpolation: str = 'bilinear',
    num_threads: int = 0,
    skip_bad_records: int = 0,
) -> Dataset:
    """Opens a data set and checks it, without reading an image.

    Args:
        name: 'digits' (embedded, in memory), 'image_folder', 'records' (an image folder prepared as sharded records) or
            'tfds:NAME'.
        image_size: height and width of the images that the model sees, in pixels.
        batch_size: global batch size, over all processes and devices, in training and in evaluation.
        seed: seed of the order and of the augmentation, 0 <= seed < 2**31.
        normalization: 'symmetric' ([-1, 1]), 'imagenet' (mean and standard deviation per channel) or 'unit' ([0, 1]).
        directory: of the image folder, the prepared records or TFDS's data ('' = TFDS's own). This and what follows do
            not concern the digits, which have their own augmentation and split.
        eval_split: the split to evaluate on; '' for the source's default, the validation split if it has one.
        crop: training crop, 'inception' (random area and aspect) or 'resize' (the whole image, aspect not kept).
        min_area_fraction: the least part of the image's area that an Inception crop takes, in (0, 1].
        random_flip: whether half of the training images are mirrored left to right.
        color_distortion: 'none', 'fast' (brightness, saturation) or 'full' (also hue and contrast).
        eval_crop: 'central_fraction' (TF: the central part of each side, resized without keeping the aspect) or
            'resize_crop' (torchvision: the short side resized to round(image_size / crop_fraction), centre cut out) or
            'rounded_resize_crop' (the same with big_vision's rounding).
        crop_fraction: the part of the side that the evaluation crop keeps, in (0, 1].
        interpolation: of the resized crops: 'bilinear' or 'bicubic'.
        num_threads: threads that decode images; 0 for as many as tf.data finds useful.
        skip_bad_records: how many unreadable training examples are replaced before one ends the run.

    Raises:
        UserError: an unknown choice, a value out of range, or data that are missing or do not fit together.
    """
    check(image_size > 0, 'image_size', image_size, 'must be positive')
    check(batch_size > 0, 'batch_size', batch_size, 'must be positive')
    check(0 <= seed < 2**31, 'seed', seed, 'must lie in [0, 2**31)')
    check_choice('data.normalization', normalization, augmentation.NORMALIZATIONS)
    options = Options(image_size, batch_size, seed, normalization)
    if name == 'digits':
        return _import_source('digits', name).create(options)

    known = name in ('image_folder', 'records') or name.startswith(_TFDS_PREFIX)
    if not known:
        raise UserError(f'data.name={name!r} is unknown. Known: {", ".join(SOURCES)}.')
    image_options = _import_source('preprocessing', name).ImageOptions(
        image_size, crop, min_area_fraction, random_flip, color_distortion, eval_crop, crop_fraction, interpolation
    )
    reading = _import_source('host_pipeline', name).Reading(num_threads, skip_bad_records)
    if name.startswith(_TFDS_PREFIX):
        source = _import_source('tfds_source', name)
        return source.create(name.removeprefix(_TFDS_PREFIX), directory, eval_split, options, image_options, reading)
    return _import_source(name, name).create(directory, eval_split, options, image_options, reading)


def _import_source(module: str, name: str) -> ModuleType:
    """Imports a module of this package that needs more than JAX; `UserError` if what it needs is not installed."""
    try:
        return importlib.import_module(f'{__name__}.{module}')
    except ModuleNotFoundError as error:
        raise UserError(f'data.name={name!r} needs the Python package {error.name}, which is not installed.') from error
