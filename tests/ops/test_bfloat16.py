"""The kernels for brain floats equal float64 to the rounding of what is stored; sums are float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilenets_jax.ops.cpu import native
from mobilenets_jax.ops.cpu.chains import Convolution, Unit, conv_norms
from mobilenets_jax.ops.cpu.normalization import Normalization
from mobilenets_jax.ops.cpu.strips import Step, convolve_in_turn

ROUNDING = 2.0**-8  # of one brain float, relative
POINTWISE = Convolution(depthwise=False)

pytestmark = pytest.mark.skipif(
    not native.supports(jnp.bfloat16), reason='this processor has no tile registers, or there is no C++ compiler'
)


def draw(generator, *shape):
    return jnp.asarray(generator.normal(size=shape), jnp.bfloat16)


def in_float64(function, *arrays):
    with jax.enable_x64(True):
        return jax.jit(function)(*jax.tree.map(lambda array: np.asarray(array, np.float64), arrays))


def assert_close(actual, expected, tolerance):
    """Every array differs by `tolerance` of its Euclidean norm at most."""
    for ours, reference in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert ours.shape == reference.shape
        distance = np.linalg.norm(np.float64(ours) - np.float64(reference))
        assert distance <= tolerance * np.linalg.norm(np.float64(reference))


def with_gradients(function, *arrays):
    outputs, gradients_of = jax.vjp(function, *arrays)
    gradient = draw(np.random.default_rng(1), *outputs.shape)
    return outputs, gradients_of(gradient.astype(outputs.dtype))


# Depth and width below, at, and between the sizes of a tile; pixels fewer than a tile's, and more than a part's.
@pytest.mark.parametrize('depth', [3, 24, 32, 72])
@pytest.mark.parametrize('width', [8, 17, 48])
@pytest.mark.parametrize('image', [(1, 1, 1), (2, 7, 7), (3, 32, 33)])
def test_a_pointwise_convolution_equals_float64(image, depth, width):
    generator = np.random.default_rng(0)
    arrays = draw(generator, *image, depth), draw(generator, 1, 1, depth, width)
    actual = jax.jit(functools.partial(with_gradients, POINTWISE))(*arrays)
    assert actual[0].dtype == jnp.bfloat16
    assert_close(actual, in_float64(functools.partial(with_gradients, POINTWISE), *arrays), ROUNDING)


@pytest.mark.parametrize('activation', ['linear', 'relu6', 'hard_swish'])
@pytest.mark.parametrize(
    ('convolution', 'kernel_shape', 'image'),
    [
        (POINTWISE, (1, 1, 24, 40), (2, 12, 13)),
        (Convolution(depthwise=False, stride=2), (3, 3, 3, 16), (2, 33, 32)),
        (Convolution(depthwise=False), (3, 3, 24, 40), (2, 12, 13)),
        (Convolution(depthwise=True), (3, 3, 1, 24), (2, 12, 13)),
        (Convolution(depthwise=True, stride=2), (5, 5, 1, 40), (2, 13, 12)),
        (Convolution(depthwise=True), (3, 3, 1, 8), (3, 2, 2)),
    ],
)
def test_a_convolution_and_its_batch_norm_equal_float64(convolution, kernel_shape, image, activation):
    generator = np.random.default_rng(0)
    channels = kernel_shape[3] if convolution.depthwise else kernel_shape[2]
    arrays = draw(generator, *image, channels), draw(generator, *kernel_shape)
    parameters = [1 + 0.1 * np.float32(generator.normal(size=kernel_shape[3])) for _ in range(2)]

    def outputs_of(inputs, *arrays):
        return conv_norms(inputs, [Unit(convolution, *arrays, activation)], epsilon=1e-3)[0][0]

    actual = jax.jit(functools.partial(with_gradients, outputs_of))(*arrays, *parameters)
    expected = in_float64(functools.partial(with_gradients, outputs_of), *arrays, *parameters)
    # A value near the bend of an activation may be rounded to its other side, and its gradient is there or not.
    assert_close(actual, expected, 2 * ROUNDING if activation == 'linear' else 16 * ROUNDING)


def test_a_separable_convolution_equals_its_steps():
    generator = np.random.default_rng(0)
    statistics = [jnp.ones(48)] * 4
    steps = [
        Step(POINTWISE, draw(generator, 1, 1, 16, 48), Normalization(*statistics, 1e-3, 'relu6')),
        Step(Convolution(depthwise=True), draw(generator, 3, 3, 1, 48), Normalization(*statistics, 1e-3, 'relu6')),
        Step(POINTWISE, draw(generator, 1, 1, 48, 48), Normalization(*statistics, 1e-3, 'linear')),
    ]
    inputs = draw(generator, 2, 30, 31, 16)

    def one_by_one(inputs):
        for convolution, kernel, then in steps:
            inputs = convolution(inputs, kernel, then=then)
        return inputs

    assert_close(jax.jit(lambda inputs: convolve_in_turn(inputs, steps))(inputs), one_by_one(inputs), 0.0)


def test_what_is_no_number_stays_none():
    inputs = jnp.full((1, 8, 8, 32), jnp.nan, jnp.bfloat16)
    outputs = POINTWISE(inputs, jnp.ones((1, 1, 32, 32), jnp.bfloat16))
    assert bool(jnp.isnan(outputs).all())
