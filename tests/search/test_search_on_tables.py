"""Searches on published tables beat random networks of the same latency, by margins and from six seeds."""

import os
import pathlib

import numpy as np
import pytest

from benchmarks.search_on_tables import TARGETS, Surrogate, compare, summary
from mobilenets_jax.search.latency import latency_model

TABLES = pathlib.Path(os.environ.get('MOBILENETS_JAX_SHARED', '../shared')) / 'luts' / 'ofa_note10'


@pytest.fixture(scope='module')
def surrogate():
    if not TABLES.exists():
        pytest.skip(f'{TABLES} is not there')
    return Surrogate(TABLES)


def test_additive_latency_is_that_of_the_table(surrogate):
    decisions = surrogate.space.sample(np.random.default_rng(0), 50)
    model = latency_model('once_for_all', str(TABLES / '224_lookup_table.yaml'))
    wanted = [model.milliseconds(surrogate.space.spec(row)) for row in decisions]
    np.testing.assert_allclose(surrogate.milliseconds(decisions), wanted, rtol=1e-12)


def test_predicted_accuracy_depends_on_what_is_in_force_alone(surrogate):
    """And rises from the smallest to the largest network."""
    rng = np.random.default_rng(1)
    decisions = surrogate.space.sample(rng, 50)
    other = np.where(surrogate.space.in_force(decisions), decisions, rng.integers(0, 3, decisions.shape))
    np.testing.assert_array_equal(surrogate.accuracy(other), surrogate.accuracy(decisions))
    smallest, largest = surrogate.accuracy(np.stack([np.zeros(45, int), np.full(45, 2)]))
    assert 0.74 < smallest < surrogate.accuracy(decisions).mean() < largest < 0.86


@pytest.mark.slow
@pytest.mark.parametrize('target', TARGETS)
def test_search_beats_random_networks_of_the_same_latency(surrogate, target):
    """By 0.7 to 1.3 points (docs/search.md); the soft reward ends at one latency, whatever is asked for."""
    rows = summary(compare(surrogate, target), target)
    baseline = rows['random in band']['best of 3000']
    # REINFORCE runs in float32, whose rounding another version of XLA may do otherwise.
    for method, margin in {'REINFORCE, absolute': 0.6, 'aging evolution': 0.7}.items():
        assert rows[method]['best of 3000'] > baseline + margin, rows
    # With a hundred networks it has learnt nothing yet.
    assert rows['REINFORCE, absolute']['best of 100'] < rows['random in band']['best of 100'] + 0.1
    assert rows['REINFORCE, absolute']['last ms'] == pytest.approx(target, abs=1.0)
    assert rows['REINFORCE, soft -0.07']['last ms'] == pytest.approx(29, abs=1.5)
    assert rows['REINFORCE, soft -0.15']['last ms'] == pytest.approx(19, abs=1.5)
