"""Examples of segmentation: an image, and the class of each of its pixels."""

import dataclasses

import tensorflow as tf

from mobilenets_jax.data import preprocessing, segmentation_preprocessing
from mobilenets_jax.data.class_sets import ClassSet
from mobilenets_jax.data.example_format import Signature, Target, segmentation_signature
from mobilenets_jax.data.segmentation_options import SegmentationOptions, Sides


@dataclasses.dataclass(frozen=True)
class SegmentationFormat:
    """An `ExampleFormat` with 'image' uint8 [H, W, 3] and 'segmentation' uint8 [H, W], train ids or `IGNORED`.

    Its target is {'segmentation': the bytes of a mask file}. H and W are `options.image_size` in training. Evaluation
    images and masks keep their size and are padded to `eval_size`; with `options.eval_resize` images are resized, and
    masks are not, see `segmentation_signature`.

    Attributes:
        classes: the meaning of the values in a mask file.
        options: how the views are drawn.
        eval_size: height and width of evaluation images; a larger one fails when it is read.
    """

    classes: ClassSet
    options: SegmentationOptions
    eval_size: Sides

    def train(self, encoded: tf.Tensor, target: Target, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """As in `ExampleFormat`."""
        exact = self.options.augmentation == 'torchvision'
        image, mask = self._decode(encoded, target, preprocessing.EXACT if exact else preprocessing.FAST)
        image, mask = segmentation_preprocessing.train_view(image, mask, seed, self.options)
        return {'image': image, 'segmentation': mask}

    def evaluate(self, encoded: tf.Tensor, target: Target) -> dict[str, tf.Tensor]:
        """As in `ExampleFormat`."""
        image, mask = self._decode(encoded, target, preprocessing.EXACT)
        fits = tf.reduce_all(tf.shape(mask) <= self.eval_size)
        message = ['its height and width are', tf.shape(mask), f'more than data.eval_size={self.eval_size}']
        with tf.control_dependencies([tf.debugging.Assert(fits, message)]):
            image = tf.identity(image)
        pixel, resized = self.options.mean_pixel, self.options.resized
        if resized is None:
            image, mask = segmentation_preprocessing.pad(image, mask, self.eval_size, pixel)
            return {'image': image, 'segmentation': mask}
        image, places = segmentation_preprocessing.fit_into(image, self.options.eval_resize, self.eval_size)
        return {
            'image': segmentation_preprocessing.pad_image(image, resized, pixel),
            'segmentation': segmentation_preprocessing.pad_mask(mask, self.eval_size),
            **places,
        }

    def signature(self, train: bool) -> Signature:
        """As in `ExampleFormat`."""
        if train:
            return segmentation_signature(self.options.image_size)
        return segmentation_signature(self.eval_size, self.options.resized)

    def _decode(self, encoded: tf.Tensor, target: Target, settings: dict) -> tuple[tf.Tensor, tf.Tensor]:
        """The image, uint8 [H, W, 3], and the train ids of its mask, uint8 [H, W]."""
        image = preprocessing.decode(encoded, **settings)
        mask = segmentation_preprocessing.decode_mask(target['segmentation'], self.classes.train_ids())
        sides = tf.shape(image)[:2]
        fits = tf.reduce_all(tf.shape(mask) == sides)
        message = ['its height and width are', sides, 'but those of its mask', tf.shape(mask)]
        with tf.control_dependencies([tf.debugging.Assert(fits, message)]):
            return tf.identity(image), mask
