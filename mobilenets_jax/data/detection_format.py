"""Examples of detection: an image, and in training its boxes."""

import dataclasses

import tensorflow as tf

from mobilenets_jax.data import detection_preprocessing, preprocessing
from mobilenets_jax.data.detection_options import DetectionOptions
from mobilenets_jax.data.example_format import Signature, Target, detection_signature


@dataclasses.dataclass(frozen=True)
class DetectionFormat:
    """An `ExampleFormat` with the fields of `detection_signature`.

    Its target is {'boxes': float32 [n, 4], [ymin, xmin, ymax, xmax] in parts of the image, 'labels': int32 [n]}, and
    where the source knows it {'size': int32 [2]}, height and width of the image, which the file must have.

    Attributes:
        options: how the image becomes pixels.
        max_boxes: how many boxes a training example has, with padding; one with more fails when it is read.
    """

    options: DetectionOptions
    max_boxes: int

    def train(self, encoded: tf.Tensor, target: Target, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """As in `ExampleFormat`."""
        view = detection_preprocessing.train_view(encoded, target, seed, self.options)
        image, boxes, labels = view
        count = tf.shape(labels)[0]
        fits = tf.debugging.Assert(
            count <= self.max_boxes, ['it has', count, f'boxes, more than data.max_boxes={self.max_boxes}']
        )
        with tf.control_dependencies([fits]):
            missing = tf.maximum(self.max_boxes - count, 0)
        padding = tf.tile(tf.constant([[0.0, 0.0, 1.0, 1.0]]), [missing, 1])
        return {
            'image': image,
            'boxes': tf.ensure_shape(tf.concat([boxes, padding], axis=0), [self.max_boxes, 4]),
            'labels': tf.ensure_shape(tf.pad(labels, [[0, missing]]), [self.max_boxes]),
            'valid': tf.range(self.max_boxes) < count,
        }

    def evaluate(self, encoded: tf.Tensor, target: Target) -> dict[str, tf.Tensor]:
        """As in `ExampleFormat`."""
        image = preprocessing.decode(encoded, **preprocessing.EXACT)
        size = detection_preprocessing.checked_size(tf.shape(image)[:2], target)
        return {'image': detection_preprocessing.resize(image, self.options), 'size': size}

    def signature(self, train: bool) -> Signature:
        """As in `ExampleFormat`."""
        return detection_signature(self.options.image_size, self.max_boxes if train else None)
