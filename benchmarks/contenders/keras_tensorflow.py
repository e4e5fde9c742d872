"""Keras's networks on TensorFlow, its graph compiled by tf.function."""

from collections.abc import Callable

import keras
import tensorflow as tf

from benchmarks.contenders import CLASSES, examples

NAMES = {
    'mobilenet_v1': 'MobileNet',
    'mobilenet_v2': 'MobileNetV2',
    'mobilenet_v3_large': 'MobileNetV3Large',
    'mobilenet_v3_small': 'MobileNetV3Small',
}


def create(network: str, size: int) -> keras.Model:
    """A network that returns logits."""
    options = {'include_preprocessing': False, 'dropout_rate': 0.0} if 'v3' in network else {}
    constructor = getattr(keras.applications, NAMES[network])
    return constructor((size, size, 3), weights=None, classes=CLASSES, classifier_activation=None, **options)


def train(network: str, batch: int, size: int) -> Callable:
    """A step of SGD with momentum, as `fit` takes it."""
    model = create(network, size)
    model.compile(keras.optimizers.SGD(0.01, 0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, labels = (tf.constant(array) for array in examples(batch, size))
    return lambda: model.train_on_batch(images, labels)


def inference(network: str, batch: int, size: int) -> Callable:
    """The logits of one batch."""
    model = create(network, size)
    images = tf.constant(examples(batch, size)[0])
    function = tf.function(lambda images: model(images, training=False))
    return lambda: function(images).numpy()
