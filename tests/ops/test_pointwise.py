"""Every implementation of the pointwise convolution is the 1x1 convolution, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mobilenets_jax.errors import UserError
from mobilenets_jax.ops.cpu.pointwise import IMPLEMENTATIONS, pointwise_conv


def example(input_shape, channels_out, dtype=np.float64):
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=input_shape).astype(dtype)
    kernel = generator.normal(size=(1, 1, input_shape[-1], channels_out)).astype(dtype)
    return inputs, kernel


def einsum_with_gradients(inputs, kernel):
    """Returns the output, and both gradients of half the sum of its squares, in NumPy."""
    outputs = np.einsum('nhwi,io->nhwo', inputs, kernel[0, 0])
    input_gradient = np.einsum('nhwo,io->nhwi', outputs, kernel[0, 0])
    kernel_gradient = np.einsum('nhwi,nhwo->io', inputs, outputs)[None, None]
    return outputs, input_gradient, kernel_gradient


def conv_with_gradients(name, inputs, kernel):
    outputs, gradients_of = jax.vjp(lambda x, w: pointwise_conv(x, w, implementation=name), inputs, kernel)
    return outputs, *gradients_of(outputs)


def assert_equal(actual, expected, tolerance):
    """Compares arrays to `tolerance` times the largest entry of `expected`."""
    for ours, reference in zip(actual, expected, strict=True):
        assert ours.shape == reference.shape
        scale = float(np.abs(reference).max())
        np.testing.assert_allclose(np.float64(ours), np.float64(reference), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize('name', ['auto', *IMPLEMENTATIONS])
@pytest.mark.parametrize(
    ('input_shape', 'channels_out'),
    [
        ((2, 5, 4, 3), 7),
        ((3, 1, 1, 8), 2),
        ((1, 7, 7, 1), 1),
        ((2, 5, 3, 7), 9),
        ((2, 40, 41, 6), 24),
        ((1, 20, 29, 33), 71),
        ((1, 3, 3, 16), 100),
    ],
)
def test_equals_einsum(name, input_shape, channels_out):
    with jax.enable_x64(True):
        inputs, kernel = example(input_shape, channels_out)
        actual = jax.jit(lambda x, w: conv_with_gradients(name, x, w))(inputs, kernel)
        assert_equal(actual, einsum_with_gradients(inputs, kernel), 1e-12)


@pytest.mark.parametrize(
    ('name', 'dtype', 'tolerance'),
    [
        *((name, jnp.float32, 1e-6) for name in IMPLEMENTATIONS),
        *((name, jnp.bfloat16, 2.0**-6) for name in IMPLEMENTATIONS if name != 'native'),
    ],
)
def test_keeps_the_dtype_and_rounds_as_it_allows(name, dtype, tolerance):
    inputs, kernel = (jnp.asarray(array, dtype) for array in example((2, 4, 4, 8), 6))
    actual = conv_with_gradients(name, inputs, kernel)
    assert {array.dtype for array in actual} == {jnp.dtype(dtype)}
    assert_equal(actual, einsum_with_gradients(np.float64(inputs), np.float64(kernel)), tolerance)


def test_under_vmap_and_scan():
    with jax.enable_x64(True):
        inputs, kernel = example((4, 3, 5, 2), 3)
        inputs = inputs[:, None]  # [4, 1, H, W, C]
        expected = [
            np.stack(arrays) for arrays in zip(*(einsum_with_gradients(x, kernel) for x in inputs), strict=True)
        ]
        mapped = jax.vmap(lambda x: conv_with_gradients('dot', x, kernel))(inputs)
        _, scanned = lax.scan(lambda carry, x: (carry, conv_with_gradients('dot', x, kernel)), 0, inputs)
        assert_equal(mapped, expected, 1e-12)
        assert_equal(scanned, expected, 1e-12)


@pytest.mark.parametrize(
    ('backend', 'dtype', 'with_kernel', 'without'),
    [
        ('cpu', 'float32', 'ffi_call', 'dot_general'),
        ('cpu', 'float16', 'dot_general', 'dot_general'),
        ('tpu', 'float32', 'conv_general_dilated', 'conv_general_dilated'),
    ],
)
def test_auto_follows_the_backend(monkeypatch, form, backend, dtype, with_kernel, without):
    monkeypatch.setattr(jax, 'default_backend', lambda: backend)
    inputs, kernel = (jnp.asarray(array, dtype) for array in example((1, 3, 3, 2), 2))
    # A new lambda each time: make_jaxpr remembers what it traced by the function.
    jaxpr = str(jax.make_jaxpr(lambda x, w: pointwise_conv(x, w))(inputs, kernel))
    found = [name for name in ('dot_general', 'conv_general_dilated', 'ffi_call') if name in jaxpr]
    assert found == [with_kernel if form == 'native' else without]


def test_weight_gradient_of_dot_has_a_barrier_before_it():
    inputs, kernel = example((1, 3, 3, 2), 2, np.float32)
    gradient = jax.grad(lambda w: jnp.sum(pointwise_conv(inputs, w, implementation='dot')))
    assert 'optimization_barrier' in str(jax.make_jaxpr(gradient)(kernel))


def test_unknown_implementation_is_refused():
    inputs, kernel = example((1, 3, 3, 2), 2, np.float32)
    with pytest.raises(UserError, match=r"implementation='einsum' is unknown. Known: auto, conv, dot, native\."):
        pointwise_conv(inputs, kernel, implementation='einsum')


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize(('kernel_shape', 'dtype'), [((3, 3, 2, 4), 'float32'), ((1, 1, 2, 4), 'bfloat16')])
def test_kernel_that_does_not_fit_is_refused(implementation, kernel_shape, dtype):
    with pytest.raises(ValueError, match=r'2 channels is float32 \[1, 1, 2, C_out\], not ' + dtype):
        pointwise_conv(jnp.zeros((1, 3, 3, 2)), jnp.zeros(kernel_shape, dtype), implementation=implementation)
