"""Pooling in all forms, forward and backward, beside that of Flax."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import covering

from mobilenets_jax.ops import average_pool, max_pool
from mobilenets_jax.ops.backend import EXPORT, compiling_for

POOLS = {'average': (average_pool, nn.avg_pool), 'max': (max_pool, nn.max_pool)}
WINDOWS = [
    ((2, 8, 8, 24), 3, 2, 'SAME'),
    ((2, 7, 9, 16), 3, 2, 'SAME'),
    ((3, 8, 6, 5), 3, 2, ((1, 1), (1, 1))),
    ((1, 9, 8, 33), 2, 2, 'VALID'),
    ((2, 6, 7, 4), 3, 1, 'SAME'),
    ((1, 11, 10, 3), 2, 3, 'VALID'),  # some pixels are in no window
    ((1, 10, 10, 8), 5, 2, ((2, 2), (1, 3))),
]


@pytest.mark.parametrize(('shape', 'size', 'stride', 'padding', 'kind'), covering(WINDOWS, list(POOLS)))
def test_equals_flax(form, kind, shape, size, stride, padding):
    ours, theirs = POOLS[kind]
    generator = np.random.default_rng(0)
    inputs = generator.integers(-3, 3, shape).astype(np.float64)  # so that windows have several largest pixels

    def value_and_gradient(pool):
        outputs, pull = jax.vjp(pool, inputs)
        return outputs, pull(jnp.asarray(np.random.default_rng(1).normal(size=outputs.shape)))[0]

    with jax.enable_x64(True):
        got = value_and_gradient(lambda x: ours(x, size, stride, padding))
        expected = value_and_gradient(lambda x: theirs(x, (size, size), (stride, stride), padding))
    for ours_is, theirs_is in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours_is, theirs_is, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('kind', POOLS)
def test_bfloat16(form, kind):
    ours, theirs = POOLS[kind]
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 32)), jnp.bfloat16)
    outputs = ours(inputs, 3, 2, 'SAME')
    assert outputs.dtype == jnp.bfloat16
    np.testing.assert_array_equal(outputs, theirs(inputs, (3, 3), (2, 2), 'SAME'))


def test_an_average_has_a_kernel_where_there_is_one(form):
    jaxpr = str(jax.make_jaxpr(lambda x: average_pool(x, 3, 2, 'SAME'))(jnp.ones((2, 8, 8, 16))))
    assert jaxpr.count('ffi_call') == (form == 'native')


@pytest.mark.parametrize('kind', POOLS)
@pytest.mark.parametrize(('shape', 'size', 'stride', 'padding'), WINDOWS)
def test_for_export_equals_flax_without_infinities(kind, shape, size, stride, padding):
    ours, theirs = POOLS[kind]
    inputs = np.random.default_rng(0).integers(-3, 3, shape).astype(np.float32)
    with compiling_for(EXPORT):
        lowered = jax.jit(lambda x: ours(x, size, stride, padding)).lower(inputs)
    np.testing.assert_allclose(
        lowered.compile()(inputs), theirs(inputs, (size, size), (stride, stride), padding), rtol=1e-6, atol=1e-6
    )
    # A converter has no operation for a mean of windows with zeros around the image; and -inf would ruin a range.
    pooled = lowered.as_text().partition('stablehlo.reduce_window')[2]
    assert bool(pooled) == (kind == 'max')
    assert not pooled or 'padding = dense<0>' in pooled or padding == 'SAME'
