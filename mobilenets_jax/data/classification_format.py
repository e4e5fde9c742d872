"""Examples of classification: an image, and the label of its class."""

import dataclasses

import tensorflow as tf

from mobilenets_jax.data import preprocessing
from mobilenets_jax.data.example_format import Signature, Target, classification_signature
from mobilenets_jax.data.options import ImageOptions


@dataclasses.dataclass(frozen=True)
class ClassificationFormat:
    """An `ExampleFormat` with the fields of `classification_signature`; its target is {'label': an integer scalar}.

    Attributes:
        num_classes: labels are in [0, num_classes); any other one fails when the example is read.
        options: how the image becomes pixels.
    """

    num_classes: int
    options: ImageOptions

    def train(self, encoded: tf.Tensor, target: Target, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """As in `ExampleFormat`."""
        label = self._label(target)
        return {'image': preprocessing.train_image(encoded, seed, self.options), 'label': label}

    def evaluate(self, encoded: tf.Tensor, target: Target) -> dict[str, tf.Tensor]:
        """As in `ExampleFormat`."""
        label = self._label(target)
        return {'image': preprocessing.eval_image(encoded, self.options), 'label': label}

    def signature(self, train: bool) -> Signature:
        """As in `ExampleFormat`; the same in training and evaluation."""
        return classification_signature(self.options.image_size)

    def _label(self, target: Target) -> tf.Tensor:
        """The label, int32; fails if it is none of the classes."""
        label = target['label']
        known = (label >= 0) & (label < self.num_classes)
        message = ['its label', label, f'is not in 0 .. {self.num_classes - 1}']
        with tf.control_dependencies([tf.debugging.Assert(known, message)]):
            return tf.cast(label, tf.int32)
