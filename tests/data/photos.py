"""Images made up for the tests, where real ones may lie, and what PIL makes of them."""

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


def resize_crop_pil(image, size, crop_fraction, interpolation='bilinear', rounded=False):
    """Torchvision's Resize and CenterCrop on a PIL image, or big_vision's resize_small and central_crop."""
    short = round(size / crop_fraction)
    width, height = image.size
    scaled = [short * length / min(width, height) for length in (width, height)]
    resized = [round(length) if rounded else int(length) for length in scaled]
    # Rows before columns, as PIL did up to version 12; 13 takes the order that is less work.
    image = image.resize((resized[0], height), Image.Resampling[interpolation.upper()])
    image = image.resize(resized, Image.Resampling[interpolation.upper()])
    left, top = ((length - size) // 2 if rounded else int(round((length - size) / 2.0)) for length in resized)
    return np.asarray(image.crop((left, top, left + size, top + size)))
