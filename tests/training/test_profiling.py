"""Traces of the steps that a config names, and of no other."""

import jax
import jax.numpy as jnp
import pytest

from mobilenets_jax.errors import UserError
from mobilenets_jax.training.profiling import ProfiledStep, parse_steps


@pytest.mark.parametrize('text', ['3', '3-4', '0:2', '4:3', '9:11', 'a:b'])
def test_steps_that_are_not_in_the_run_are_refused(text):
    with pytest.raises(UserError, match=f"profile_steps='{text}' must be "):
        parse_steps(text, 10)


def test_the_spelling():
    assert parse_steps('', 10) is None
    assert parse_steps('1:10', 10) == (1, 10)


def traced_steps(folder):
    """The numbers of the steps in the only trace of a folder."""
    (file,) = folder.rglob('*.xplane.pb')
    events = [
        event
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes
        for line in plane.lines
        for event in line.events
        if event.name == 'train'
    ]
    return sorted(dict(event.stats)['step_num'] for event in events)


@pytest.mark.parametrize(('steps', 'calls', 'traced'), [((7, 8), 4, [7, 8]), ((8, 20), 3, [8])])
def test_the_named_steps_are_traced_also_if_the_run_ends_before(tmp_path, steps, calls, traced):
    step = jax.jit(lambda state, batch: (state + batch, {'sum': jnp.sum(state)}))
    profiled = ProfiledStep(step, steps, tmp_path, start_step=5)
    state = jnp.zeros(3)
    for _ in range(calls):
        state, metrics = profiled(state, jnp.ones(3))
    profiled.close()
    assert state.tolist() == [calls] * 3 and float(metrics['sum']) == 3 * (calls - 1)
    assert traced_steps(tmp_path) == traced


def test_without_steps_nothing_is_written(tmp_path):
    profiled = ProfiledStep(lambda state, batch: (state, batch), None, tmp_path / 'profile', 0)
    assert profiled(1, 2) == (1, 2)
    profiled.close()
    assert not (tmp_path / 'profile').exists()
