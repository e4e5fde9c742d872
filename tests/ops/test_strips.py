"""Convolutions strip by strip are the same convolutions one after the other, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilenets_jax.ops.cpu import strips
from mobilenets_jax.ops.cpu.chains import Convolution
from mobilenets_jax.ops.cpu.normalization import Normalization
from mobilenets_jax.ops.cpu.strips import Step, convolve_in_turn, runs_in_strips

pytestmark = pytest.mark.skipif(not strips.native.is_available(), reason='no native ops for this CPU can be built here')

POINTWISE = Convolution(depthwise=False)


def make_steps(generator, channels, depthwise, kernel_size, *, expand, project, activation):
    """The steps of an inverted residual of `channels` = before, between and after the depthwise convolution."""
    before, between, after = channels
    steps = []
    for wanted, convolution, shape, name in (
        (expand, POINTWISE, (1, 1, before, between), activation),
        (True, depthwise, (kernel_size, kernel_size, 1, between), activation),
        (project, POINTWISE, (1, 1, between, after), 'linear'),
    ):
        scale, bias, mean, variance = generator.normal(size=(4, shape[-1]))
        then = Normalization(scale, bias, mean, variance**2, 1e-3, name)
        if wanted:
            steps.append(Step(convolution, generator.normal(size=shape), then))
    return steps


def one_by_one(inputs, steps):
    for convolution, kernel, then in steps:
        inputs = then(convolution(inputs, kernel))
    return inputs


def with_residual(generator, inputs, steps):
    *others, last = steps
    shape = jax.eval_shape(functools.partial(one_by_one, steps=steps), inputs).shape
    return [*others, last._replace(then=last.then._replace(residual=generator.normal(size=shape)))]


@pytest.fixture(autouse=True)
def always_together(monkeypatch):
    monkeypatch.setattr(strips, 'CACHED_BYTES', 0)


@pytest.mark.parametrize(
    ('expand', 'project', 'adds'),
    [(True, True, False), (True, False, False), (False, True, True), (True, True, True), (True, False, True)],
)
@pytest.mark.parametrize(
    ('depthwise', 'kernel_size'),
    [
        (Convolution(depthwise=True), 3),
        (Convolution(depthwise=True, stride=2), 3),
        (Convolution(depthwise=True, stride=2, padding=((2, 2), (2, 2))), 5),
        (Convolution(depthwise=True, dilation=3), 3),
        (Convolution(depthwise=True, stride=3, padding='VALID'), 2),
    ],
)
@pytest.mark.parametrize(('size', 'between'), [((57, 40), 96), ((7, 5), 20), ((3, 3), 3)])
def test_equals_the_steps_one_by_one(size, between, depthwise, kernel_size, expand, project, adds):
    generator = np.random.default_rng(0)
    before = 10 if expand else between
    make = functools.partial(make_steps, generator, (before, between, 17), depthwise, kernel_size)
    steps = make(expand=expand, project=project, activation='hard_swish')
    inputs = generator.normal(size=(3, *size, before))
    with jax.enable_x64(True):
        if adds:
            steps = with_residual(generator, inputs, steps)
        assert runs_in_strips(jnp.asarray(inputs), steps)
        np.testing.assert_allclose(
            convolve_in_turn(jnp.asarray(inputs), steps), one_by_one(inputs, steps), rtol=1e-10, atol=1e-10
        )


def test_the_gradient_is_that_of_the_steps():
    generator = np.random.default_rng(0)
    steps = make_steps(
        generator, (4, 24, 5), Convolution(depthwise=True), 3, expand=True, project=True, activation='relu6'
    )
    inputs = generator.normal(size=(2, 9, 8, 4))
    with jax.enable_x64(True):
        kernels = [jnp.asarray(step.kernel) for step in steps]
        residual = jnp.asarray(generator.normal(size=(2, 9, 8, 5)))

        def loss(function, inputs, kernels, residual):
            given = [step._replace(kernel=kernel) for step, kernel in zip(steps, kernels, strict=True)]
            given[-1] = given[-1]._replace(then=given[-1].then._replace(residual=residual))
            return jnp.sin(function(inputs, given)).sum()

        actual, expected = (
            jax.grad(functools.partial(loss, function), argnums=(0, 1, 2))(jnp.asarray(inputs), kernels, residual)
            for function in (convolve_in_turn, one_by_one)
        )
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), actual, expected)


@pytest.mark.parametrize(
    ('kinds', 'activation', 'dtype'),
    [
        ((True,), 'relu6', 'float32'),
        ((False, False), 'relu6', 'float32'),
        ((False, True), 'swish', 'float32'),
        ((False, True), 'relu6', 'float16'),
    ],
)
def test_what_has_no_kernel_does_not_run_in_strips(kinds, activation, dtype):
    steps = []
    for depthwise in kinds:
        kernel = jnp.zeros((3, 3, 1, 8) if depthwise else (1, 1, 8, 8), dtype)
        then = Normalization(*jnp.ones((4, 8)), 1e-3, activation)
        steps.append(Step(Convolution(depthwise=depthwise), kernel, then))
    assert not runs_in_strips(jnp.zeros((1, 9, 9, 8), dtype), steps)


def test_what_the_caches_hold_is_written_out(monkeypatch):
    monkeypatch.undo()
    generator = np.random.default_rng(0)
    steps = make_steps(
        generator, (4, 24, 5), Convolution(depthwise=True), 3, expand=True, project=True, activation='relu6'
    )
    with jax.enable_x64(True):
        inputs = jnp.zeros((8, 56, 56, 4), jnp.float64)
        assert not runs_in_strips(inputs[:1], steps)
        assert runs_in_strips(inputs, steps)
