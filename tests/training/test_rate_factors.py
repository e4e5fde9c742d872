"""Parameters that learn more slowly, or not at all, by patterns and by the depth of their layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilenets_jax.errors import UserError
from mobilenets_jax.models import create_model
from mobilenets_jax.training.optimizers import WeightDecayOptions, create_optimizer
from mobilenets_jax.training.rate_factors import factors_by_name

PARAMS = {'backbone': {'stem': jnp.ones(3), 'block01': jnp.ones(3)}, 'logits': {'kernel': jnp.ones(3)}}
GRADS = jax.tree.map(lambda leaf: 0.5 * leaf, PARAMS)


def updates(rate_factors, name='sgd', **options):
    optimizer = create_optimizer(name, lambda step: 0.1, rate_factors=rate_factors, **options)
    return optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS)[0]


@pytest.mark.parametrize('name', ['sgd', 'rmsprop', 'adamw'])
def test_the_first_pattern_that_is_found_counts(name):
    plain, scaled = updates((), name), updates((('stem$', 0.0), ('^backbone/', 0.25)), name)
    assert not scaled['backbone']['stem'].any()
    np.testing.assert_allclose(scaled['backbone']['block01'], 0.25 * plain['backbone']['block01'], rtol=1e-6)
    np.testing.assert_array_equal(scaled['logits']['kernel'], plain['logits']['kernel'])


def test_frozen_parameters_do_not_decay_either():
    decay = WeightDecayOptions(rate=0.1, decoupled=True)
    scaled = updates((('^backbone/', 0.0),), weight_decay=decay)
    assert not scaled['backbone']['block01'].any() and (scaled['logits']['kernel'] < -0.05).all()


@pytest.mark.parametrize(
    ('rate_factors', 'message'),
    [
        (
            (('^bakbone/', 0.1),),
            "optimizer.rate_factors='^bakbone/' is found in no parameter; one is backbone/block01.",
        ),
        ((('(', 0.1),), "optimizer.rate_factors='(' is no regular expression"),
        (('^backbone/', 0.0), "optimizer.rate_factors='^backbone/' is no pair of a pattern and a factor, as in (("),
        ((('stem', '0'),), "optimizer.rate_factors=('stem', '0') is no pair of a pattern and a factor"),
        (((0.0, 'stem'),), "optimizer.rate_factors=(0.0, 'stem') is no pair of a pattern and a factor"),
        ((('stem',),), "optimizer.rate_factors=('stem',) is no pair of a pattern and a factor"),
        ('stem', "optimizer.rate_factors='stem' is no pair of a pattern and a factor"),
        ((('stem', -1.0),), "optimizer.rate_factors of 'stem'=-1.0 must not be negative."),
    ],
)
def test_wrong_factors_are_refused(rate_factors, message):
    with pytest.raises(UserError) as error:
        updates(rate_factors)
    assert message in str(error.value)


def by_layer(name, **options):
    """The factor of each layer of a network, whose parameters must all have the same."""
    model = create_model(name, 10)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))['params']
    found = {}
    for path, factor in factors_by_name((), shapes, **options).items():
        layer = path.removeprefix('backbone/').partition('/')[0]
        assert found.setdefault(layer, factor) == factor
    return found


def test_rates_fall_from_the_head_to_the_stem():
    """MobileNetV3-Small: 11 blocks between the stem and the last convolution; both layers behind the pooling learn."""
    factors = by_layer('mobilenet_v3_small', layer_decay=0.5)
    expected = {'logits': 1, 'pre_logits': 1, 'head_conv': 1 / 2, 'block11': 1 / 4, 'block01': 2.0**-12}
    assert expected.items() <= factors.items()
    assert factors['stem'] == min(factors.values()) == 2.0**-13 and len(set(factors.values())) == 14


def test_a_head_of_several_layers_learns_at_the_whole_rate():
    params = {
        'backbone': {name: {'kernel': jnp.ones(1)} for name in ('stem', 'block02', 'block10')},
        'head': {'map1': {'kernel': jnp.ones(1)}, 'map2': {'kernel': jnp.ones(1)}},
    }
    found = factors_by_name((('map2', 0.5), ('stem', 0.0)), params, layer_decay=0.8)
    assert found == pytest.approx(
        {
            'backbone/stem/kernel': 0.0,
            'backbone/block02/kernel': 0.64,
            'backbone/block10/kernel': 0.8,
            'head/map1/kernel': 1.0,
            'head/map2/kernel': 0.5,
        }
    )


@pytest.mark.parametrize('name', ['sgd', 'lamb'])
def test_updates_are_multiplied(name):
    params = {'backbone': {'stem': {'kernel': jnp.ones(3)}}, 'logits': {'kernel': jnp.ones(3)}}
    grads = jax.tree.map(lambda leaf: 0.5 * leaf, params)
    optimizers = [create_optimizer(name, lambda step: 0.1, layer_decay=decay) for decay in (1.0, 0.25)]
    plain, scaled = (optimizer.update(grads, optimizer.init(params), params)[0] for optimizer in optimizers)
    np.testing.assert_allclose(
        scaled['backbone']['stem']['kernel'], 0.25 * plain['backbone']['stem']['kernel'], rtol=1e-6
    )
    np.testing.assert_array_equal(scaled['logits']['kernel'], plain['logits']['kernel'])


@pytest.mark.parametrize('value', [0.0, 1.5, -1.0])
def test_wrong_layer_decay_is_refused(value):
    with pytest.raises(UserError, match=r'^optimizer.layer_decay=\S+ must be in \(0, 1\], where 1 is none\.$'):
        create_optimizer('sgd', lambda step: 0.1, layer_decay=value)


def test_layer_decay_needs_layers():
    with pytest.raises(UserError, match=r'^optimizer.layer_decay=0.5 needs a network with a backbone\.$'):
        factors_by_name((), {'dense': {'kernel': jnp.ones(1)}}, 0.5)
