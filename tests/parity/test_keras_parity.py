"""Convention 'keras' is keras.applications, layer by layer, with random weights and statistics."""

import numpy as np
import pytest
from paired_layers import ReferenceLayer, assert_same_network

from mobilenets_jax.models import create_model

pytestmark = pytest.mark.slow

IMAGE_SIZE = 96
NETWORKS = {
    'mobilenet_v1': ('MobileNet', {}),
    'mobilenet_v2': ('MobileNetV2', {}),
    'mobilenet_v3_large': ('MobileNetV3Large', {}),
    'mobilenet_v3_small': ('MobileNetV3Small', {}),
    'mobilenet_v3_large_minimalistic': ('MobileNetV3Large', {'minimalistic': True}),
    'mobilenet_v3_small_minimalistic': ('MobileNetV3Small', {'minimalistic': True}),
}


@pytest.fixture(scope='module')
def keras():
    return pytest.importorskip('keras', reason='Keras comes with TensorFlow, which is not installed')


def _is_depthwise(layer) -> bool:
    return type(layer).__name__ == 'DepthwiseConv2D'


def _randomise(network, generator):
    """Fresh weights: kernels keep their scale, batch-norm statistics and biases become anything but 0 and 1."""
    for layer in network.layers:
        for weight in layer.weights:
            noise = generator.standard_normal(weight.shape).astype(np.float32)
            if weight.name in ('gamma', 'moving_variance'):
                weight.assign(np.exp(0.2 * noise))
            elif weight.name in ('beta', 'moving_mean', 'bias'):
                weight.assign(0.2 * noise)
            else:
                fan_in = weight.shape[:2] if _is_depthwise(layer) else weight.shape[:-1]
                weight.assign(noise * np.sqrt(2 / np.prod(fan_in)))


def _weights(layer) -> dict[str, np.ndarray]:
    ours = {'gamma': 'scale', 'beta': 'bias', 'moving_mean': 'mean', 'moving_variance': 'var'}
    weights = {ours.get(weight.name, weight.name): np.asarray(weight) for weight in layer.weights}
    if _is_depthwise(layer):
        weights['kernel'] = weights['kernel'].transpose(0, 1, 3, 2)  # (h, w, C, 1) -> (h, w, 1, C)
    return weights


@pytest.mark.parametrize('alpha', [0.75, 1.0])
@pytest.mark.parametrize('name', NETWORKS)
def test_same_network_as_keras(keras, name, alpha):
    constructor, options = NETWORKS[name]
    if 'V3' in constructor:
        options = {**options, 'include_preprocessing': False}
    network = getattr(keras.applications, constructor)(
        input_shape=(IMAGE_SIZE, IMAGE_SIZE, 3), alpha=alpha, weights=None, classifier_activation=None, **options
    )
    generator = np.random.default_rng(0)
    _randomise(network, generator)
    images = generator.uniform(-1, 1, (2, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)
    weighted = [layer for layer in network.layers if layer.weights]
    outputs = keras.Model(network.input, [layer.output for layer in weighted] + [network.output])(images)
    *outputs, logits = [np.asarray(output) for output in outputs]
    layers = [
        ReferenceLayer(layer.name, _weights(layer), output) for layer, output in zip(weighted, outputs, strict=True)
    ]
    model = create_model(name, 1000, alpha, 'keras')
    assert_same_network(model, images, layers, logits)
