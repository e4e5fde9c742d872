"""A folder of small images, read into memory once and augmented on the device: no TensorFlow, no waiting for input.

The folder is laid out as `image_folder` has it, DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg; 60,000 images of 32x32
pixels take 180 MB.
"""

from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from etils import epath

from mobilenets_jax.data import augmentation, image_files
from mobilenets_jax.data.folders import Files, read_image_folder
from mobilenets_jax.data.memory import Arrays, MemoryDataset
from mobilenets_jax.data.options import DataOptions, MemoryOptions
from mobilenets_jax.errors import UserError, check


def create(
    directory: str, train_split: str, eval_split: str, options: DataOptions, memory_options: MemoryOptions
) -> MemoryDataset:
    """Reads all images, which must have the size of `options`.

    Raises:
        UserError: the directory, a split, a class or an image is missing, or one has another size or cannot be read.
    """
    folder = read_image_folder(directory, train_split, eval_split)
    check(folder.train is not None, 'data.dir', directory, 'has no training split')

    def augment(keys: jax.Array, images: jax.Array) -> jax.Array:
        shift_keys, flip_keys = jax.vmap(lambda key: jax.random.split(key))(keys).T
        images = augmentation.random_shift(shift_keys, images, max_pixels=memory_options.shift_pixels)
        return augmentation.random_flip(flip_keys, images) if memory_options.random_flip else images

    train, turned_train = _read_split(folder.train, options.image_size)
    evaluation, turned_evaluation = _read_split(folder.evaluation, options.image_size)
    image_files.report_orientations(turned_train + turned_evaluation)
    dataset = MemoryDataset(
        name='memory_folder',
        class_names=tuple(folder.class_names),
        train=train,
        evaluation=evaluation,
        augment=augment,
        options=options,
        fingerprints=folder.fingerprints,
    )
    dataset.eval_names = folder.evaluation[0]
    return dataset


def _read_split(files: Files, image_size: int) -> tuple[Arrays, int]:
    """Images and labels, and how many of the images have an EXIF orientation."""
    paths, labels = files.paths, files.labels
    images = np.empty((len(paths), image_size, image_size, 3), np.uint8)

    def read(row: int) -> bool:
        try:
            encoded = epath.Path(paths[row]).read_bytes()
            image = image_files.open_image(encoded)
            fits = image.size == (image_size, image_size)  # A huge image should not be decoded first.
            check(fits, 'image_size', image_size, f'is not that of {paths[row]}, {image.width}x{image.height}')
            images[row] = image_files.rgb_pixels(image)
        except OSError as error:
            raise UserError(f'{paths[row]} cannot be read: {error.strerror or error}.') from error
        except image_files.ImageError as error:
            raise UserError(f'{paths[row]} cannot be read: {error}') from error
        return image_files.has_orientation(encoded)

    with ThreadPoolExecutor() as readers:
        turned = sum(readers.map(read, range(len(paths)), chunksize=256))
    return (images, np.array(labels, np.int32)), turned
