"""The embedded data set: scikit-learn's handwritten digits as RGB images, in memory, without any download.

Source: the test part of the UCI "Optical Recognition of Handwritten Digits", 1797 images of 8x8 pixels with values 0
to 16, as bundled with scikit-learn (`sklearn.datasets.load_digits`).
"""

import functools

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from mobilenets_jax.data import augmentation, fingerprint
from mobilenets_jax.data.memory import MemoryDataset
from mobilenets_jax.data.options import DataOptions

TEST_EXAMPLES = 360
SPLIT_SEED = 0  # The split's own: runs with different seeds are tested on the same images.
DARKEST = 16  # The largest value in the source.

# Strong enough that 1437 images do not get learnt by heart, weak enough that no digit turns into another.
augment = functools.partial(
    augmentation.random_affine, max_rotation_degrees=10.0, max_scale=0.1, max_shear=0.1, max_shift_fraction=1 / 16
)


def load_split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The fixed stratified split: train images, test images [n, 8, 8] with values 0..16, train labels, test labels."""
    images, labels = load_digits(return_X_y=True)
    return train_test_split(
        images.reshape(-1, 8, 8), labels, test_size=TEST_EXAMPLES, stratify=labels, random_state=SPLIT_SEED
    )


def upsample(images: np.ndarray, image_size: int) -> np.ndarray:
    """Bilinear upsampling of grey [n, 8, 8] with values 0..16 to RGB uint8 [n, image_size, image_size, 3]."""
    grey = np.rint(images * (255 / DARKEST)).astype(np.uint8)
    resized = [Image.fromarray(image).resize((image_size, image_size), Image.Resampling.BILINEAR) for image in grey]
    return np.repeat(np.stack([np.asarray(image) for image in resized])[..., None], 3, axis=-1)


def create(options: DataOptions) -> MemoryDataset:
    """The digits at `options.image_size`: 1437 to train on, 360 to test on."""
    train_images, test_images, train_labels, test_labels = load_split()
    return MemoryDataset(
        name='digits',
        class_names=tuple('0123456789'),
        train=(upsample(train_images, options.image_size), train_labels.astype(np.int32)),
        evaluation=(upsample(test_images, options.image_size), test_labels.astype(np.int32)),
        augment=augment,
        options=options,
        fingerprints={
            fingerprint.TRAIN: [fingerprint.of_arrays('the digits', train_images, train_labels)],
            fingerprint.EVALUATION: [fingerprint.of_arrays('the digits', test_images, test_labels)],
        },
    )
