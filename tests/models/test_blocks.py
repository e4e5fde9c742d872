"""A block evaluated in one operation is the block evaluated layer by layer."""

import functools

import jax
import numpy as np
import pytest

from mobilenets_jax.models import create_model
from mobilenets_jax.ops import native, separable

pytestmark = pytest.mark.skipif(not native.is_available(), reason='no kernels for this CPU can be built here')


@pytest.mark.parametrize('name', ['mobilenet_v1', 'mobilenet_v2', 'mobilenet_v3_small'])
def test_outputs_and_taps_are_those_of_the_layers(name, monkeypatch):
    model = create_model(name, num_classes=7, width_multiplier=0.5)
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), images)
    runs = []
    run_in_strips = separable.convolve_in_turn
    monkeypatch.setattr(
        'mobilenets_jax.models.blocks.convolve_in_turn', lambda *args: runs.append(1) or run_in_strips(*args)
    )

    def evaluate(cached_bytes):
        monkeypatch.setattr(separable, 'CACHED_BYTES', cached_bytes)
        return jax.jit(lambda variables: model.apply(variables, images, train=False))(variables)

    by_layers = evaluate(2**40)
    assert not runs
    in_strips = evaluate(0)
    assert len(runs) >= 6
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), in_strips, by_layers)
