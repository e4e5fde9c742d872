"""Learning rates at single steps, worked out by hand."""

import numpy as np
import pytest

from mobilenets_jax.errors import UserError
from mobilenets_jax.training.schedules import create_schedule


def at(schedule, *steps):
    return [float(schedule(step)) for step in steps]


def test_exponential_decay_in_jumps_and_smoothly():
    fields = {'learning_rate': 0.1, 'total_steps': 1000, 'decay_steps': 10, 'decay_rate': 0.5}
    np.testing.assert_allclose(
        at(create_schedule('exponential', **fields), 0, 9, 10, 25), [0.1, 0.1, 0.05, 0.025], rtol=1e-6
    )
    smooth = create_schedule('exponential', **fields, staircase=False)
    np.testing.assert_allclose(at(smooth, 0, 5, 10), [0.1, 0.1 * 0.5**0.5, 0.05], rtol=1e-6)


def test_warmup_rises_to_where_the_schedule_then_is():
    schedule = create_schedule(
        'exponential',
        learning_rate=0.1,
        total_steps=100,
        decay_steps=10,
        decay_rate=0.5,
        warmup_steps=20,
        warmup_from=0.005,
    )
    # After 20 steps the staircase has come down to 0.025.
    np.testing.assert_allclose(at(schedule, 0, 10, 19, 20, 30), [0.005, 0.015, 0.024, 0.025, 0.0125], rtol=1e-6)


def test_cosine_ends_at_zero():
    schedule = create_schedule('cosine', learning_rate=0.4, total_steps=100)
    np.testing.assert_allclose(at(schedule, 0, 50, 100), [0.4, 0.2, 0.0], atol=1e-8)


def test_constant_stays():
    assert at(create_schedule('constant', learning_rate=0.25, total_steps=5), 0, 4, 100) == [0.25] * 3


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'name': 'linear'}, r"schedule.name='linear' is unknown. Known: constant, cosine, exponential, polynomial."),
        ({'learning_rate': 0.0}, r'schedule.learning_rate=0.0 must be positive.'),
        ({'name': 'exponential'}, r"schedule.decay=None must be set, e.g. decay_epochs, for 'exponential'."),
        ({'warmup_steps': 11}, r'schedule.warmup=11 steps exceed the run of 10.'),
    ],
)
def test_mistakes_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        create_schedule(**{'name': 'constant', 'learning_rate': 0.1, 'total_steps': 10} | fields)


def test_polynomial_by_hand():
    schedule = create_schedule('polynomial', learning_rate=0.02, total_steps=1000, power=0.9)
    for step in (0, 1, 500, 999, 1000):
        assert float(schedule(step)) == pytest.approx(0.02 * (1 - step / 1000) ** 0.9, rel=1e-4, abs=1e-9)
