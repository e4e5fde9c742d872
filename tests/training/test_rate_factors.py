"""Parameters that learn more slowly, or not at all, by patterns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilenets_jax.errors import UserError
from mobilenets_jax.training.optimizers import WeightDecayOptions, create_optimizer

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
