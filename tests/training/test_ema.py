"""Moving averages against `tf.train.ExponentialMovingAverage`."""

import jax.numpy as jnp
import numpy as np
import pytest

from mobilenets_jax.errors import UserError
from mobilenets_jax.training.ema import EmaOptions


@pytest.mark.parametrize('ramp', [True, False])
def test_average_is_tensorflows(ramp):
    tf = pytest.importorskip('tensorflow')
    variable, updates = tf.Variable(1.0), tf.Variable(0, dtype=tf.int64)
    reference = tf.train.ExponentialMovingAverage(0.95, num_updates=updates if ramp else None)
    reference.apply([variable])  # the average starts as a copy
    ours = {'w': jnp.array(1.0)}
    options = EmaOptions(decay=0.95, ramp=ramp)
    for step in range(1, 300):
        variable.assign(np.sin(step))
        updates.assign(step)
        reference.apply([variable])
        ours = options.update(ours, {'w': jnp.asarray(np.sin(step), jnp.float32)}, jnp.asarray(step))
        np.testing.assert_allclose(ours['w'], reference.average(variable).numpy(), atol=1e-5)


def test_ramp_lets_a_short_run_forget_its_start():
    average = EmaOptions(decay=0.9999).update(jnp.array(0.0), jnp.array(1.0), jnp.array(1))
    assert float(average) == pytest.approx(1 - 2 / 11)


def test_zero_decay_keeps_no_average():
    assert not EmaOptions(decay=0.0).enabled


def test_decay_of_one_is_refused():
    with pytest.raises(UserError, match=r'ema.decay=1.0 must be in \[0, 1\).'):
        EmaOptions(decay=1.0)
