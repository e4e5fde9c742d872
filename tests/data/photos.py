"""Images made up for the tests, and where real ones may lie."""

import os
import pathlib

import numpy as np
from PIL import Image, ImageFilter

PHOTOS = pathlib.Path(os.environ.get('MOBILENETS_JAX_SHARED', '../shared')) / 'data' / 'imagenet_one_per_class.zip'


def photo(seed, size=(90, 70), mode='RGB'):
    """A smooth random image of `size` (width, height), the same for each seed."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), np.uint8)
    return Image.fromarray(pixels.squeeze(), mode).filter(ImageFilter.GaussianBlur(2))


def write_class(folder, count, first_seed):
    folder.mkdir(parents=True)
    for seed in range(first_seed, first_seed + count):
        photo(seed, size=(60 + seed % 7 * 10, 80 - seed % 5 * 6)).save(folder / f'{seed:03}.jpg', quality=95)
