"""The dense convolution is XLA's, in whatever form it is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mobilenets_jax.ops.cpu.dense import dense_conv


@pytest.mark.parametrize(
    ('kernel_shape', 'stride', 'dilation', 'padding'),
    [
        ((3, 3, 3, 8), 2, 1, 'SAME'),
        ((3, 3, 3, 20), 2, 1, ((1, 1), (1, 1))),
        ((5, 5, 2, 3), 1, 2, 'VALID'),
        ((1, 1, 4, 5), 2, 1, 'SAME'),
        ((1, 1, 4, 5), 1, 1, 'SAME'),
        ((1, 1, 4, 5), 1, 1, ((1, 0), (0, 2))),
        ((3, 3, 30, 4), 1, 1, 'SAME'),
        ((3, 3, 16, 24), 1, 2, 'SAME'),
        ((3, 3, 16, 24), 2, 1, 'SAME'),
        ((2, 3, 9, 17), 1, 1, ((3, 2), (0, 4))),
    ],
)
def test_equals_xla(form, kernel_shape, stride, dilation, padding):
    generator = np.random.default_rng(0)
    inputs, kernel = generator.normal(size=(2, 13, 12, kernel_shape[2])), generator.normal(size=kernel_shape)

    def reference(inputs, kernel):
        return lax.conv_general_dilated(
            inputs,
            kernel,
            (stride, stride),
            padding,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        )

    def ours(inputs, kernel):
        return dense_conv(inputs, kernel, stride=stride, dilation=dilation, padding=padding)

    with jax.enable_x64(True):
        actual, expected = (
            (f(inputs, kernel), *jax.grad(lambda *xs, f=f: jnp.sin(f(*xs)).sum(), argnums=(0, 1))(inputs, kernel))
            for f in (ours, reference)
        )
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)
