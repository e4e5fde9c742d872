"""Image files as `predict` reads and draws them."""

import functools
import pathlib
from collections.abc import Callable

import numpy as np

from mobilenets_jax.data import image_files
from mobilenets_jax.errors import UserError
from mobilenets_jax.weights.cards import Preprocessing

MAX_DRAWN_PIXELS = 1024  # of a side; Matplotlib needs many times the memory of an image


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


def read_whole_image(path: str) -> np.ndarray:
    """An image file, uint8 [H, W, 3], not turned upright."""
    from mobilenets_jax.data.preprocessing import EXACT, decode

    return _pixels(path, functools.partial(decode, **EXACT))


def whole_image(path: str):
    """An image file as a PIL image, like the network's input not rotated by EXIF; small enough to be drawn."""
    from PIL import Image

    image = Image.fromarray(read_whole_image(path))
    image.thumbnail((MAX_DRAWN_PIXELS, MAX_DRAWN_PIXELS))
    return image


def report_orientations(paths: list[str]) -> None:
    """Says in one line how many of the files have an orientation that is not applied."""
    image_files.report_orientations(sum(map(has_orientation, paths)))


def has_orientation(path: str) -> bool:
    """Whether an image file has an EXIF orientation, which is not applied."""
    return image_files.has_orientation(_read_bytes(path))


def save_figure(figure, path: str) -> None:
    """Writes a Matplotlib figure to the file that `--out` names; raises `UserError` where it cannot be written."""
    try:
        figure.savefig(path, dpi=100)
    except (OSError, ValueError) as error:
        raise UserError(f'--out={path!r} cannot be written: {error}.') from error


def _pixels(path: str, decode: Callable) -> np.ndarray:
    """The result of `decode`, a function of TensorFlow, for the bytes of an image file."""
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
