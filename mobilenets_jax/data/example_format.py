"""The examples of a task: their fields, and how they are made from an encoded image and its target.

A source finds its examples, and returns for each the bytes of an image file and a *target*, a dict of the data that the
task learns. An example format, one for each task, decodes and augments both and gives them their shapes. So sources are
independent of tasks, and formats are independent of sources.
"""

from typing import TYPE_CHECKING, Protocol

import jax
import numpy as np

from mobilenets_jax.image_size import ImageSize, height_and_width

if TYPE_CHECKING:  # Data in memory are read without TensorFlow.
    import tensorflow as tf

# The fields of one example by name: their shapes and dtypes, without any axis of devices or examples.
Signature = dict[str, jax.ShapeDtypeStruct]
Target = dict[str, 'tf.Tensor']

# Fields of every training example, in addition to those of its task, and of every evaluation example.
TRAIN_FIELDS: Signature = {name: jax.ShapeDtypeStruct((), np.int32) for name in ('epoch', 'index')}
EVAL_FIELDS: Signature = {'mask': jax.ShapeDtypeStruct((), np.float32)}


class ExampleFormat(Protocol):
    """How the examples of a task are made, as TensorFlow operations for one example at a time."""

    def train(self, encoded: 'tf.Tensor', target: Target, seed: 'tf.Tensor') -> dict[str, 'tf.Tensor']:
        """The fields of a training example.

        Args:
            encoded: the bytes of an image file, a string scalar.
            target: of the source, such as {'label': an integer scalar}.
            seed: of all random choices about the example, int64 [2].
        """

    def evaluate(self, encoded: 'tf.Tensor', target: Target) -> dict[str, 'tf.Tensor']:
        """The fields of an evaluation example."""

    def signature(self, train: bool) -> Signature:
        """The fields that `train` or `evaluate` returns."""


def classification_signature(image_size: ImageSize) -> Signature:
    """The fields of a classified image: 'image' uint8 [height, width, 3] and 'label' int32 []."""
    return {
        'image': jax.ShapeDtypeStruct((*height_and_width(image_size), 3), np.uint8),
        'label': jax.ShapeDtypeStruct((), np.int32),
    }


def segmentation_signature(size: tuple[int, int], resized: tuple[int, int] | None = None) -> Signature:
    """The fields of an image with a mask, of height and width `size`: 'image' uint8 and 'segmentation' uint8.

    If the image was `resized` and its mask was not, 'rows' int32 [H] and 'columns' int32 [W] say in which row and which
    column of the image those of the mask lie.
    """
    signature = {
        'image': jax.ShapeDtypeStruct((*(resized or size), 3), np.uint8),
        'segmentation': jax.ShapeDtypeStruct(size, np.uint8),
    }
    if resized:
        height, width = size
        signature['rows'] = jax.ShapeDtypeStruct((height,), np.int32)
        signature['columns'] = jax.ShapeDtypeStruct((width,), np.int32)
    return signature


def detection_signature(size: tuple[int, int], max_boxes: int | None) -> Signature:
    """The fields of an image of height and width `size` with boxes: 'image' uint8 [H, W, 3], and in training the boxes.

    Args:
        size: of the image.
        max_boxes: M; of a training example 'boxes' float32 [M, 4], [ymin, xmin, ymax, xmax] in parts of the image,
            'labels' int32 [M] and 'valid' bool [M], False of padding, which is the whole image with label 0. None: of
            an evaluation example, which has 'size' int32 [2], height and width of its file's image, in pixels.
    """
    signature = {'image': jax.ShapeDtypeStruct((*size, 3), np.uint8)}
    if max_boxes is None:
        return signature | {'size': jax.ShapeDtypeStruct((2,), np.int32)}
    fields = {'boxes': ((max_boxes, 4), np.float32), 'labels': ((max_boxes,), np.int32), 'valid': ((max_boxes,), bool)}
    return signature | {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in fields.items()}


def no_examples(signature: Signature) -> dict[str, np.ndarray]:
    """A batch of no example, arrays [0, ...]."""
    return {name: np.zeros((0, *field.shape), field.dtype) for name, field in signature.items()}
