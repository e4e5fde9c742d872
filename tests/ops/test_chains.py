"""A convolution together with its batch norm is the two of them apart, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import covering

from mobilenets_jax.ops import ACTIVATIONS
from mobilenets_jax.ops.cpu.batch_norm import batch_norm
from mobilenets_jax.ops.cpu.chains import Convolution, Unit, conv_norms

OPTIONS = {'epsilon': 1e-3, 'axis_name': 'batch'}
CASES = [
    (Convolution(depthwise=True), (3, 3, 1, 24)),
    (Convolution(depthwise=True, stride=2), (3, 3, 1, 24)),
    (Convolution(depthwise=True, stride=2, padding=((2, 2), (2, 2))), (5, 5, 1, 24)),
    (Convolution(depthwise=True, dilation=2), (3, 3, 1, 24)),
    (Convolution(depthwise=True, stride=3, padding='VALID'), (2, 4, 1, 24)),
    (Convolution(depthwise=True, implementation='shifted'), (3, 3, 1, 24)),
    (Convolution(depthwise=False), (1, 1, 24, 70)),
    (Convolution(depthwise=False), (1, 1, 24, 3)),
    (Convolution(depthwise=False, stride=2), (3, 3, 24, 8)),
    (Convolution(depthwise=False), (3, 3, 24, 8)),
]


def apart(convolution, inputs, kernel, scale, bias, **options):
    return batch_norm(convolution(inputs, kernel), scale, bias, **options)


def together(convolution, inputs, kernel, scale, bias, *, activation, **options):
    (results,) = conv_norms(inputs, [Unit(convolution, kernel, scale, bias, activation)], **options)
    return results


def value_and_gradients(function, convolution, activation, inputs, kernel, scale, bias):
    """Of two devices with half of the batch each, which share their statistics."""

    def run(inputs, kernel, scale, bias):
        function_of = functools.partial(function, convolution, activation=activation, **OPTIONS)
        results, vjp = jax.vjp(function_of, inputs, kernel, scale, bias)
        generator = np.random.default_rng(1)
        cotangents = generator.normal(size=results[0].shape), *map(jnp.zeros_like, results[1:])
        return results, vjp(cotangents)

    mapped = jax.vmap(run, axis_name='batch', in_axes=(0, None, None, None))
    return jax.device_get(jax.jit(mapped)(inputs.reshape(2, -1, *inputs.shape[1:]), kernel, scale, bias))


@pytest.mark.parametrize(
    ('convolution', 'kernel_shape', 'activation'), covering(CASES, ['linear', 'relu6', 'hard_swish', 'swish'])
)
def test_equals_the_two_apart(form, convolution, kernel_shape, activation):
    assert activation in ACTIVATIONS
    generator = np.random.default_rng(0)
    inputs, kernel = generator.normal(size=(4, 19, 21, 24)), generator.normal(size=kernel_shape)
    scale, bias = generator.normal(size=(2, kernel_shape[-1]))
    arguments = convolution, activation, inputs, kernel, scale, bias
    with jax.enable_x64(True):
        actual, expected = (value_and_gradients(f, *arguments) for f in (together, apart))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-10), actual, expected)


KINDS = {
    'pointwise': (Convolution(depthwise=False), (1, 1)),
    'depthwise': (Convolution(depthwise=True), (3, 3)),
    'strided': (Convolution(depthwise=True, stride=2, padding=((2, 2), (2, 2))), (5, 5)),
    'dense': (Convolution(depthwise=False, stride=2), (3, 3)),
    'valid': (Convolution(depthwise=True, stride=3, padding='VALID'), (2, 4)),
    'shifted': (Convolution(depthwise=True, implementation='shifted'), (3, 3)),
}
ASKED = {'last': slice(-1, None), 'all': slice(None), 'first': slice(1)}


def in_turn(kinds, activation, inputs, parameters, **options):
    units = [Unit(KINDS[kind][0], *arrays, activation) for kind, arrays in zip(kinds, parameters, strict=True)]
    return conv_norms(inputs, units, **options)


def one_by_one(kinds, activation, inputs, parameters, **options):
    results = []
    for kind, (kernel, scale, bias) in zip(kinds, parameters, strict=True):
        results.append(apart(KINDS[kind][0], inputs, kernel, scale, bias, activation=activation, **options))
        inputs = results[-1][0]
    return results


INVERTED = ('pointwise', 'depthwise', 'pointwise')


@pytest.mark.parametrize(
    ('kinds', 'activation', 'asked'),
    [
        (INVERTED, 'relu6', 'last'),
        pytest.param(INVERTED, 'hard_swish', 'all', marks=pytest.mark.slow),
        pytest.param(INVERTED, 'linear', 'first', marks=pytest.mark.slow),
        pytest.param(INVERTED, 'swish', 'last', marks=pytest.mark.slow),
        pytest.param(('pointwise', 'strided', 'pointwise'), 'hard_swish', 'last', marks=pytest.mark.slow),
        (('dense', 'pointwise', 'valid'), 'relu6', 'last'),
        (('depthwise', 'dense', 'pointwise', 'depthwise'), 'relu6', 'all'),
        pytest.param(('pointwise', 'shifted', 'depthwise'), 'relu6', 'last', marks=pytest.mark.slow),
    ],
)
def test_in_turn_equals_one_by_one(form, kinds, activation, asked):
    """Whatever sees the outputs besides the next unit."""
    generator = np.random.default_rng(0)
    inputs, parameters, channels = generator.normal(size=(2, 19, 21, 24)), [], 24
    for place, kind in enumerate(kinds):
        convolution, taps = KINDS[kind]
        width = channels if convolution.depthwise else (70, 20, 40)[place]
        kernel = generator.normal(size=(*taps, 1 if convolution.depthwise else channels, width))
        parameters.append((kernel, *generator.normal(size=(2, width))))
        channels = width

    def with_gradients(function):
        def seen(inputs, parameters):
            results = function(kinds, activation, inputs, parameters, epsilon=1e-3)
            return [outputs for outputs, *_ in results[ASKED[asked]]], results

        outputs, vjp, results = jax.vjp(seen, inputs, parameters, has_aux=True)
        generator = np.random.default_rng(1)
        return results, vjp([generator.normal(size=array.shape) for array in outputs])

    with jax.enable_x64(True):
        actual, expected = (jax.device_get(jax.jit(lambda f=f: with_gradients(f))()) for f in (in_turn, one_by_one))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), actual, expected)
