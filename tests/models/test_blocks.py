"""A block in one operation, evaluated or trained, is the block layer by layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from covering import covering
from model_cases import compile_quickly, random_variables

from mobilenets_jax.models import create_model, get_spec
from mobilenets_jax.models.layers import LayerSettings
from mobilenets_jax.models.network import BLOCKS
from mobilenets_jax.ops import native, separable

pytestmark = pytest.mark.skipif(not native.is_available(), reason='no kernels for this CPU can be built here')


@pytest.mark.parametrize('name', ['mobilenet_v1', 'mobilenet_v2', 'mobilenet_v3_small'])
def test_outputs_and_taps_are_those_of_the_layers(name, monkeypatch):
    model = create_model(name, num_classes=7, width_multiplier=0.5)
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    variables = random_variables(model, 64)
    runs = []
    run_in_strips = separable.convolve_in_turn
    monkeypatch.setattr(
        'mobilenets_jax.models.blocks.convolve_in_turn', lambda *args: runs.append(1) or run_in_strips(*args)
    )

    def evaluate(cached_bytes):
        monkeypatch.setattr(separable, 'CACHED_BYTES', cached_bytes)
        return compile_quickly(lambda variables: model.apply(variables, images, train=False), variables)(variables)

    by_layers = evaluate(2**40)
    assert not runs
    in_strips = evaluate(0)
    assert len(runs) >= 6
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), in_strips, by_layers)


@pytest.mark.parametrize(
    ('name', 'place', 'tapped'),
    covering([('mobilenet_v1', 1), ('mobilenet_v2', 2), ('mobilenet_v3_small', 4)], [False, True]),
)
def test_gradients_and_statistics_are_those_of_the_layers(name, place, tapped):
    """Whether or not a head stands on what lies between the layers of a block."""
    row = get_spec(name).blocks[place]
    generator = np.random.default_rng(0)
    with jax.enable_x64(True):
        inputs = generator.normal(size=(2, 14, 15, 24))

        def block(fuse):
            settings = LayerSettings(dtype=jnp.float64, fuse=fuse)
            return BLOCKS[row.kind](row, settings, stride=row.stride, dilation=1)

        def loss(params, inputs, fuse):
            variables_of = {**variables, 'params': params}
            (outputs, taps), updated = block(fuse).apply(variables_of, inputs, train=True, mutable=['batch_stats'])
            seen = [outputs, *taps.values()] if tapped else [outputs]
            return sum(jnp.sum(jnp.sin(array)) for array in seen), updated

        variables = block(False).init(jax.random.key(1), inputs, train=False)
        fused, apart = (
            jax.jit(jax.value_and_grad(functools.partial(loss, fuse=fuse), argnums=(0, 1), has_aux=True))(
                variables['params'], inputs
            )
            for fuse in (True, False)
        )
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), fused, apart)
