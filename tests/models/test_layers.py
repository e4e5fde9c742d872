"""Layers against a few lines of NumPy, and the rounding of channels against the published widths."""

import dataclasses

import jax
import numpy as np
import pytest

from mobilenets_jax.models import get_spec
from mobilenets_jax.models.layers import ConvNorm, LayerSettings
from mobilenets_jax.models.specs import SqueezeExciteSpec, make_divisible
from mobilenets_jax.models.squeeze_excite import SqueezeExcite
from mobilenets_jax.ops import ACTIVATIONS

RELU6 = [0, 0, 0, 0.5, 3, 6, 6]
INPUTS = np.array([-7, -3, -1, 0.5, 3, 6, 9], np.float32)


@pytest.mark.parametrize(
    ('activation', 'expected'),
    [
        ('linear', INPUTS),
        ('relu', np.maximum(INPUTS, 0)),
        ('relu6', RELU6),
        ('swish', INPUTS / (1 + np.exp(-INPUTS))),
        ('hard_swish', [0, 0, -1 / 3, 0.5 * 3.5 / 6, 3, 6, 9]),
        ('sigmoid', 1 / (1 + np.exp(-INPUTS))),
        ('hard_sigmoid', [0, 0, 1 / 3, 3.5 / 6, 1, 1, 1]),
    ],
)
def test_activations(activation, expected):
    np.testing.assert_allclose(ACTIVATIONS[activation](INPUTS), expected, rtol=1e-6, atol=1e-7)


def test_squeeze_excite_scales_each_channel_by_its_gate():
    generator = np.random.default_rng(0)
    images = generator.standard_normal((2, 5, 5, 16), np.float32)
    module = SqueezeExcite(SqueezeExciteSpec(), 16, LayerSettings())
    params = module.init(jax.random.key(0), images)['params']
    params = jax.tree.map(lambda leaf: generator.standard_normal(leaf.shape, np.float32), params)
    squeezed = images.mean(axis=(1, 2)) @ params['reduce']['kernel'] + params['reduce']['bias']
    gate = np.maximum(squeezed, 0) @ params['expand']['kernel'] + params['expand']['bias']
    gate = np.clip(gate / 6 + 0.5, 0, 1)
    actual = module.apply({'params': params}, images)
    np.testing.assert_allclose(actual, images * gate[:, None, None, :], rtol=1e-5, atol=1e-6)


def test_squeeze_widths_of_mobilenet_v3():
    expanded = (16, 64, 72, 96, 120, 144, 240, 288, 480, 576, 672, 960)
    squeezed = [SqueezeExciteSpec().squeezed(in_channels=1, gated_channels=width) for width in expanded]
    assert squeezed == [8, 16, 24, 24, 32, 40, 64, 72, 120, 144, 168, 240]


@pytest.mark.parametrize(
    ('padding', 'stride', 'first_window'), [('same', 2, 0), ('symmetric', 2, -1), ('same', 1, -1), ('symmetric', 1, -1)]
)
def test_padding_places_the_first_window(padding, stride, first_window):
    """With even sizes and stride 2, TensorFlow pads only bottom and right; PyTorch also top and left."""
    settings = dataclasses.replace(LayerSettings(), padding=padding, bn_epsilon=0.0)
    layer = ConvNorm(1, 'linear', settings, kernel_size=3, stride=stride)
    ramp = np.arange(8, dtype=np.float32)[None, :, None, None] * np.ones((1, 8, 8, 1), np.float32)
    variables = layer.init(jax.random.key(0), ramp, train=False)
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1, 1] = 1  # picks the centre of each window
    variables['params']['conv']['kernel'] = kernel
    outputs = layer.apply(variables, ramp, train=False)[0, :, 1, 0]
    np.testing.assert_allclose(outputs, np.arange(first_window + 1, 8, stride))


def test_batch_norm_uses_the_epsilon_of_the_settings():
    layer = ConvNorm(1, 'linear', dataclasses.replace(LayerSettings(), bn_epsilon=3.0))
    image = np.full((1, 2, 2, 1), 4.0, np.float32)
    variables = layer.init(jax.random.key(0), image, train=False)
    variables['params']['conv']['kernel'] = np.ones((1, 1, 1, 1), np.float32)
    np.testing.assert_allclose(layer.apply(variables, image, train=False), 4 / np.sqrt(1 + 3), rtol=1e-6)


@pytest.mark.parametrize(
    ('value', 'divisor', 'expected'),
    [(12, 8, 16), (11.2, 8, 16), (8.4, 8, 8), (33.6, 8, 32), (3, 8, 8), (60, 8, 64), (19, 8, 24), (20.8, 4, 20)],
)
def test_make_divisible_rounds_half_up_and_never_below_nine_tenths(value, divisor, expected):
    assert make_divisible(value, divisor) == expected


LARGE_WIDTHS = {
    0.35: [8, 8, 16, 32, 40, 56, 336],
    0.5: [8, 16, 24, 40, 56, 80, 480],
    0.75: [16, 24, 32, 64, 88, 120, 720],
    1.25: [24, 32, 48, 104, 144, 200, 1200],
}
SMALL_WIDTHS = {
    0.35: [8, 8, 16, 16, 32, 200],
    0.5: [8, 16, 24, 24, 48, 288],
    0.75: [16, 24, 32, 40, 72, 432],
    1.25: [24, 32, 48, 64, 120, 720],
}


@pytest.mark.parametrize(
    ('name', 'width', 'expected'),
    [('mobilenet_v3_large', *item) for item in LARGE_WIDTHS.items()]
    + [('mobilenet_v3_small', *item) for item in SMALL_WIDTHS.items()],
)
def test_scaled_widths_of_mobilenet_v3(name, width, expected):
    spec = get_spec(name, width)
    stages = list(dict.fromkeys([spec.stem.channels, *(row.out_channels for row in spec.blocks)]))
    distinct = list(dict.fromkeys([*expected[:-1]]))
    assert [*stages, spec.head_conv.channels] == [*distinct, expected[-1]]
