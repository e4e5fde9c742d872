"""Images and masks made up for the tests, written with PIL."""

import numpy as np
from photos import photo
from PIL import Image

SIZE = (60, 40)  # width, height


def values(seed, count=11, size=SIZE):
    """Values 0 .. count - 1 in blocks, uint8 [H, W], the same for each seed."""
    blocks = np.random.default_rng(seed).integers(0, count, (8, 10))
    return np.kron(blocks, np.ones((size[1] // 8, size[0] // 10), int)).astype(np.uint8)


def write_pair(images, masks, name, seed, count=11, size=SIZE, suffix='.jpg'):
    """An image and its mask in grey."""
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    photo(seed, size=size).save(images / f'{name}{suffix}', quality=95)
    Image.fromarray(values(seed, count, size)).save(masks / f'{name}.png')


def write_camvid(root, num_train=9, num_eval=5):
    """A folder as CamVid has it."""
    for split, number, first in (('train', num_train, 0), ('val', num_eval, 50), ('test', 2, 80)):
        for seed in range(first, first + number):
            write_pair(root / split, root / f'{split}annot', f'{seed:03}', seed, count=12)
    return root
