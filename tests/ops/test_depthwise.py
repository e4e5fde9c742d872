"""Every implementation of the depthwise convolution is the grouped convolution, forward and backward."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import covering
from jax import lax

from mobilenets_jax.errors import UserError
from mobilenets_jax.ops.cpu.depthwise import IMPLEMENTATIONS, depthwise_conv

# kernel (height, width), stride, dilation, padding, input (height, width): each value of each meets most of the others.
CASES = [
    ((3, 3), 1, 1, 'SAME', (7, 8)),
    ((3, 3), 2, 1, 'SAME', (8, 7)),
    ((3, 3), 2, 1, ((1, 1), (1, 1)), (8, 8)),
    ((3, 3), 1, 2, 'SAME', (9, 6)),
    ((3, 3), 2, 2, 'VALID', (10, 9)),
    ((3, 3), 3, 1, 'SAME', (11, 7)),
    ((5, 5), 1, 1, ((2, 2), (2, 2)), (6, 9)),
    ((5, 5), 2, 1, 'SAME', (9, 8)),
    ((5, 5), 2, 2, ((4, 4), (4, 4)), (9, 7)),
    ((5, 5), 1, 2, 'SAME', (4, 4)),
    ((5, 5), 2, 1, 'VALID', (12, 11)),
    ((5, 5), 2, 1, 'SAME', (1, 1)),
    ((7, 7), 2, 1, 'SAME', (8, 9)),
    ((2, 2), 2, 1, 'SAME', (7, 6)),
    ((2, 4), 1, 1, 'VALID', (6, 6)),
    ((1, 1), 2, 1, 'VALID', (6, 5)),
    ((3, 5), 2, 1, ((1, 3), (0, 2)), (8, 9)),
    ((3, 3), 2, 1, ((-1, 2), (-1, 1)), (8, 9)),
    ((5, 5), 1, 1, 'SAME', (6, 23)),  # wide enough for whole blocks of outputs
    ((5, 5), 2, 1, ((2, 2), (2, 2)), (7, 31)),
]
ALTERNATIVES = sorted(set(IMPLEMENTATIONS) - {'grouped'})


def example(kernel_size, input_size, channels=3, dtype=np.float64, batch=2):
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(batch, *input_size, channels)).astype(dtype)
    kernel = generator.normal(size=(*kernel_size, 1, channels)).astype(dtype)
    return inputs, kernel


def value_and_gradients(function, inputs, kernel):
    """Returns the output, and the two gradients of its product with fixed random numbers."""

    def run(inputs, kernel):
        outputs, gradients_of = jax.vjp(function, inputs, kernel)
        cotangent = jnp.asarray(np.random.default_rng(1).normal(size=outputs.shape), outputs.dtype)
        return outputs, *gradients_of(cotangent)

    return jax.jit(run)(inputs, kernel)


def conv(name, stride=1, dilation=1, padding='SAME'):
    return functools.partial(depthwise_conv, stride=stride, dilation=dilation, padding=padding, implementation=name)


def assert_equal(actual, expected, tolerance):
    """Compares arrays to `tolerance` times the largest entry of `expected`."""
    for ours, reference in zip(actual, expected, strict=True):
        assert ours.shape == reference.shape and ours.dtype == reference.dtype
        scale = float(np.abs(reference).max())
        np.testing.assert_allclose(np.float64(ours), np.float64(reference), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize('name', IMPLEMENTATIONS)
def test_equals_the_definition(name):
    stride, dilation, ((top, bottom), (left, right)) = 2, 2, ((1, 3), (0, 2))
    inputs, kernel = example((3, 5), (8, 9), dtype=np.float32)
    padded = np.pad(inputs, ((0, 0), (top, bottom), (left, right), (0, 0)))
    expected = np.zeros((2, 4, 2, 3))
    for row, column, i, j in np.ndindex(4, 2, 3, 5):
        seen = padded[:, row * stride + i * dilation, column * stride + j * dilation]
        expected[:, row, column] += seen * kernel[i, j, 0]
    actual = conv(name, stride, dilation, ((top, bottom), (left, right)))(inputs, kernel)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', ALTERNATIVES)
@pytest.mark.parametrize(('kernel_size', 'stride', 'dilation', 'padding', 'input_size'), CASES)
def test_equals_grouped_convolution(kernel_size, stride, dilation, padding, input_size, name):
    with jax.enable_x64(True):
        inputs, kernel = example(kernel_size, input_size)
        expected = value_and_gradients(conv('grouped', stride, dilation, padding), inputs, kernel)
        actual = value_and_gradients(conv(name, stride, dilation, padding), inputs, kernel)
        assert_equal(actual, expected, 1e-12)


@pytest.mark.parametrize(
    ('channels', 'dtype', 'tolerance'),
    covering([1, 4, 7, 8, 15, 16, 24, 33], [(np.float64, 1e-12), (np.float32, 2e-6)]),
)
@pytest.mark.parametrize('name', ALTERNATIVES)
def test_equals_grouped_convolution_with_any_number_of_channels(name, channels, dtype, tolerance):
    with jax.enable_x64(True):
        for kernel_size, stride, padding in [(3, 1, 'SAME'), (5, 2, ((2, 2), (2, 2)))]:
            inputs, kernel = example((kernel_size, kernel_size), (5, 31), channels, dtype)
            wide = inputs.astype(np.float64), kernel.astype(np.float64)
            expected = value_and_gradients(conv('grouped', stride, padding=padding), *wide)
            actual = value_and_gradients(conv(name, stride, padding=padding), inputs, kernel)
            assert_equal(actual, [array.astype(dtype) for array in expected], tolerance)


@pytest.mark.parametrize('name', ALTERNATIVES)
def test_under_vmap_and_scan(name):
    with jax.enable_x64(True):
        inputs, kernel = example((3, 3), (6, 5), batch=4)
        inputs = inputs[:, None]  # [4, 1, H, W, C]

        def gradient(implementation, x):
            return jax.grad(lambda w: jnp.sum(jnp.sin(conv(implementation, stride=2)(x, w))))(kernel)

        expected = np.stack([jax.jit(gradient, static_argnums=0)('grouped', x) for x in inputs])
        mapped = jax.jit(jax.vmap(lambda x: gradient(name, x)))(inputs)
        _, scanned = lax.scan(lambda carry, x: (carry, gradient(name, x)), 0, inputs)
        assert_equal((mapped, scanned), (expected, expected), 1e-12)


@pytest.mark.parametrize(
    ('name', 'dtype', 'tolerance'),
    [
        *((name, jnp.float32, 1e-6) for name in IMPLEMENTATIONS),
        *((name, jnp.bfloat16, 2.0**-7) for name in IMPLEMENTATIONS if name != 'native'),
    ],
)
def test_keeps_the_dtype_and_rounds_as_it_allows(name, dtype, tolerance):
    inputs, kernel = (jnp.asarray(array, dtype) for array in example((5, 5), (8, 8), dtype=np.float32))
    actual = value_and_gradients(conv(name, stride=2), inputs, kernel)
    wide = (inputs.astype(jnp.float32), kernel.astype(jnp.float32))
    expected = value_and_gradients(conv('grouped', stride=2), *wide)
    assert_equal(actual, [array.astype(dtype) for array in expected], tolerance)


def test_bfloat16_weight_gradient_sums_in_float32():
    # 4096 ones: a bfloat16 running sum would stop at 256, where 256 + 1 rounds to 256.
    inputs, kernel = jnp.ones((1, 64, 64, 1), jnp.bfloat16), jnp.ones((1, 1, 1, 1), jnp.bfloat16)
    gradient = jax.grad(lambda w: jnp.sum(conv('shifted')(inputs, w).astype(jnp.float32)))
    assert gradient(kernel).item() == 4096


@pytest.mark.parametrize(('implementation', 'primitive'), [('shifted', 'pad'), ('grouped', 'conv_general_dilated')])
def test_named_implementation_is_taken(implementation, primitive):
    assert primitive in primitives(implementation, jnp.float32)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.float16])
def test_auto_on_a_cpu_is_its_kernel_or_shifted(form, dtype):
    expected = 'ffi_call' if form == 'native' and dtype == jnp.float32 else 'pad'
    assert {'ffi_call', 'pad', 'conv_general_dilated'} & primitives('auto', dtype) == {expected}


def primitives(implementation, dtype):
    """The names of what the convolution and its gradients are made of."""
    inputs, kernel = (jnp.asarray(array, dtype) for array in example((3, 3), (6, 6), dtype=np.float32))
    gradients = jax.grad(lambda x, w: jnp.sum(conv(implementation)(x, w).astype(jnp.float32)), argnums=(0, 1))
    return set(re.findall(r'(\w+)\[', str(jax.make_jaxpr(gradients)(inputs, kernel))))


@pytest.mark.parametrize(('backend', 'is_grouped'), [('cpu', False), ('gpu', True), ('tpu', True), ('other', True)])
def test_auto_follows_the_backend(monkeypatch, backend, is_grouped):
    monkeypatch.setattr(jax, 'default_backend', lambda: backend)
    inputs, kernel = example((3, 3), (6, 6), dtype=np.float32)
    assert ('conv_general_dilated' in str(jax.make_jaxpr(conv('auto'))(inputs, kernel))) == is_grouped


def test_unknown_implementation_is_refused():
    inputs, kernel = example((3, 3), (6, 6), dtype=np.float32)
    with pytest.raises(
        UserError, match=r"implementation='winograd' is unknown. Known: auto, grouped, native, shifted\."
    ):
        conv('winograd')(inputs, kernel)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize(('kernel_shape', 'dtype'), [((3, 3, 1, 1), 'float32'), ((3, 3, 1, 3), 'float16')])
def test_kernel_that_does_not_fit_is_refused(implementation, kernel_shape, dtype):
    inputs = jnp.zeros((1, 6, 6, 3))
    with pytest.raises(ValueError, match=r'3 channels is float32 \[kh, kw, 1, 3\], not ' + dtype):
        conv(implementation)(inputs, jnp.zeros(kernel_shape, dtype))


def test_a_kernel_too_large_for_native_is_shifted():
    inputs, kernel = example((17, 3), (18, 4), dtype=np.float32)
    np.testing.assert_allclose(conv('auto')(inputs, kernel), conv('grouped')(inputs, kernel), rtol=1e-4, atol=1e-4)


def test_kernels_refuse_what_they_do_not_take():
    inputs, kernel = (jnp.asarray(array, jnp.float16) for array in example((3, 3), (6, 6), dtype=np.float32))
    with pytest.raises(UserError, match="depthwise_conv has no implementation='native' here for float16 on cpu"):
        conv('native')(inputs, kernel)
