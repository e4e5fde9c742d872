"""The pointwise convolution in groups is XLA's convolution with groups, in whatever form it is computed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import covering

from mobilenets_jax.errors import UserError
from mobilenets_jax.ops.cpu.batch_norm import batch_norm
from mobilenets_jax.ops.cpu.chains import Convolution, Unit, conv_norms
from mobilenets_jax.ops.cpu.grouped import pointwise_conv_in_groups
from mobilenets_jax.ops.cpu.native_conv import Geometry
from mobilenets_jax.ops.cpu.normalization import Normalization
from mobilenets_jax.ops.groups import channels_by_groups, group_width

# Channels of each group below, at, and between the widths of vectors; pixels fewer than a part's, and many.
SHAPES = [((2, 7, 5, 12), 3, 6), ((1, 1, 1, 8), 2, 8), ((3, 13, 12, 60), 3, 240), ((2, 14, 14, 96), 8, 40)]


def with_gradients(function, *arrays):
    outputs, gradients_of = jax.vjp(function, *arrays)
    gradient = np.random.default_rng(1).normal(size=outputs.shape)
    return outputs, *gradients_of(jnp.asarray(gradient, outputs.dtype))


def draw(shape, groups, features):
    generator = np.random.default_rng(0)
    return generator.normal(size=shape), generator.normal(size=(1, 1, shape[-1] // groups, features))


@pytest.mark.parametrize('shuffled', [False, True])
@pytest.mark.parametrize(('shape', 'groups', 'features'), SHAPES)
def test_equals_the_grouped_convolution(form, shape, groups, features, shuffled):
    ours = functools.partial(pointwise_conv_in_groups, groups=groups, shuffled=shuffled)
    reference = functools.partial(Geometry.convolve_by_xla, Geometry(False, groups=groups, shuffled=shuffled))
    with jax.enable_x64(True):
        arrays = draw(shape, groups, features)
        actual, expected = (jax.jit(functools.partial(with_gradients, f))(*arrays) for f in (ours, reference))
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ('shape', 'groups', 'features', 'activation', 'shuffled'),
    covering(SHAPES, ['linear', 'relu', 'swish'], [False, True]),
)
def test_with_batch_norm_equals_the_two_apart(form, shape, groups, features, activation, shuffled):
    ours = Convolution(depthwise=False, groups=groups, shuffled=shuffled)
    reference = Convolution(depthwise=False, groups=groups, shuffled=shuffled, implementation='grouped')
    options = {'epsilon': 1e-3, 'activation': activation}

    def together(*arrays):
        inputs, *others = arrays
        return conv_norms(inputs, [Unit(ours, *others, activation)], epsilon=1e-3)[0][0]

    def apart(inputs, kernel, scale, bias):
        return batch_norm(reference(inputs, kernel), scale, bias, **options)[0]

    with jax.enable_x64(True):
        arrays = *draw(shape, groups, features), *np.random.default_rng(2).normal(size=(2, features))
        actual, expected = (jax.jit(functools.partial(with_gradients, f))(*arrays) for f in (together, apart))
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('residual', [False, True])
def test_what_follows_in_the_same_pass_equals_it_apart(form, residual):
    shape, groups, features = SHAPES[2]
    options = {'groups': groups, 'shuffled': True}
    with jax.enable_x64(True):
        inputs, kernel = draw(shape, groups, features)
        arrays = np.abs(np.random.default_rng(2).normal(size=(4, features)))
        added = np.random.default_rng(3).normal(size=(*shape[:3], features)) if residual else None

        def together(inputs, kernel, arrays):
            then = Normalization(*arrays, 1e-3, 'linear', added)
            return pointwise_conv_in_groups(inputs, kernel, then=then, **options)

        def apart(inputs, kernel, arrays):
            then = Normalization(*arrays, 1e-3, 'linear', added)
            return then(pointwise_conv_in_groups(inputs, kernel, implementation='grouped', **options))

        actual, expected = (with_gradients(f, inputs, kernel, arrays) for f in (together, apart))
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


def test_groups_that_do_not_divide_evenly_are_wider_first():
    inputs = jnp.arange(11.0).reshape(1, 1, 1, 11)
    assert [part.ravel().tolist() for part in channels_by_groups(inputs, 3, shuffled=True)] == [
        [0, 3, 6, 9],
        [1, 4, 7, 10],
        [2, 5, 8],
    ]
    assert [part.ravel().tolist() for part in channels_by_groups(inputs, 3, shuffled=False)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10],
    ]
    assert [group_width(11, 3, group) for group in range(3)] == [4, 4, 3]


@pytest.mark.parametrize(
    ('kernel_shape', 'dtype'), [((1, 1, 5, 6), 'float32'), ((1, 1, 4, 7), 'float32'), ((1, 1, 4, 6), 'float16')]
)
def test_kernel_that_does_not_fit_is_refused(kernel_shape, dtype):
    with pytest.raises(ValueError, match=r'12 channels in 3 groups is float32 \[1, 1, 12 / 3, 3 \* n\], not'):
        pointwise_conv_in_groups(jnp.ones((1, 2, 2, 12)), jnp.ones(kernel_shape, dtype), groups=3)


def test_unknown_implementation_is_refused():
    with pytest.raises(UserError, match=r"implementation='fast' is unknown. Known: auto, grouped, native, split\."):
        pointwise_conv_in_groups(jnp.ones((1, 2, 2, 12)), jnp.ones((1, 1, 4, 6)), groups=3, implementation='fast')
