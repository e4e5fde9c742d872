"""Controllers propose what their state says, and learn what the mathematics of their papers says."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilenets_jax.errors import UserError
from mobilenets_jax.search.controllers import (
    AgingEvolution,
    RandomInBand,
    Reinforce,
    log_probabilities,
    policy_gradient,
    sample,
)
from mobilenets_jax.search.space import Choice, Space

# Two and three options, and two that mean something with the first option alone: 9 networks of 12 vectors.
TINY = Space(
    name='tiny',
    choices=(
        Choice(name='layer', options=(True, False)),
        Choice(name='width', options=(8, 16, 24)),
        Choice(name='kernel', options=(3, 5), needs=('layer', (True,))),
    ),
    build=lambda options: None,
)
ALL = np.array(list(itertools.product(range(2), range(3), range(2))))
# Bits whose latency is 10 ms and one for each 1, and whose reward is how many are right.
WANTED = np.random.default_rng(7).integers(0, 2, 16)
BITS = Space(
    name='bits',
    choices=tuple(Choice(name=f'bit{number:02d}', options=(0, 1)) for number in range(16)),
    build=lambda options: None,
)


def latency(decisions):
    return 10.0 + decisions.sum(axis=1)


def reward(decisions):
    return (decisions == WANTED).mean(axis=1)


def run(controller, steps, batch, seed=0):
    state, tried = controller.init(), []
    for step in range(steps):
        decisions = controller.propose(state, np.random.default_rng((seed, step)), batch)
        state = controller.observe(state, decisions, reward(decisions))
        tried.append(decisions)
    return state, np.concatenate(tried)


@pytest.fixture
def doubles():
    with jax.enable_x64(True):
        yield


def test_gradient_of_reinforce_is_that_of_the_expected_reward(doubles):
    """The mean of the estimates over all networks, by their probability, against the derivative of the sum itself."""
    rng = np.random.default_rng(1)
    logits = jnp.asarray(rng.standard_normal((3, 3)))
    in_force = TINY.in_force(ALL)
    # A network has one reward, whatever stands where nothing is in force.
    values = rng.standard_normal((2, 3, 2))
    rewards = np.where(ALL[:, 0] == 0, values[tuple(ALL.T)], values[ALL[:, 0], ALL[:, 1], 0])

    def probabilities(logits):
        options = log_probabilities(logits, TINY.num_options)
        return jnp.exp(sum(options[number, ALL[:, number]] for number in range(3)))

    @jax.jit
    def computed(logits):
        gradient = functools.partial(policy_gradient, logits, TINY.num_options)
        one_by_one = jax.vmap(gradient)(ALL[:, None], in_force[:, None], rewards[:, None] - 0.7)
        expected = jax.grad(lambda logits: probabilities(logits) @ rewards)(logits)
        return expected, probabilities(logits), one_by_one, gradient(ALL, in_force, rewards - 0.7)

    expected, weights, estimates, together = map(np.asarray, computed(logits))
    mean = np.einsum('n,nco->co', weights, estimates)
    assert np.abs(mean - expected).max() < 1e-14
    assert np.abs(expected).max() > 0.01 and expected[0, 2] == expected[2, 2] == 0  # options that are not there
    # A choice that is not in force learns nothing.
    assert not estimates[ALL[:, 0] == 1][:, 2].any()
    # And of many at once the estimate is the mean.
    np.testing.assert_allclose(together, estimates.mean(axis=0), atol=1e-15)


def test_samples_have_the_probabilities_of_the_softmax():
    logits = jnp.array([[1.0, -1.0, 9.0], [0.0, 1.0, 2.0], [-30.0, 30.0, 9.0]])
    uniform = (np.arange(20000) + 0.5) / 20000
    drawn = np.asarray(sample(logits, TINY.num_options, jnp.asarray(uniform)[:, None].repeat(3, axis=1)))
    shares = [[(drawn[:, choice] == option).mean() for option in range(3)] for choice in range(3)]
    e = np.exp
    wanted = [[1 / (1 + e(-2)), e(-2) / (1 + e(-2)), 0], e([0, 1, 2]) / e([0, 1, 2]).sum(), [0, 1, 0]]
    np.testing.assert_allclose(shares, wanted, atol=1e-4)
    last = np.nextafter(np.float32(1), np.float32(0))
    assert sample(logits, TINY.num_options, jnp.full(3, last)).tolist() == [1, 2, 1]


def test_a_step_of_reinforce_by_hand():
    """Adam without momentum moves each logit by the rate and the sign of its gradient at first; two baselines."""
    controller = Reinforce(BITS, learning_rate=0.1, baseline_decay=0.8)
    decisions = np.stack([np.zeros(16, int), np.ones(16, int)])
    state = controller.observe(controller.init(), decisions, np.array([0.25, 0.75]))
    np.testing.assert_allclose(state.logits, np.tile([-0.1, 0.1], (16, 1)), rtol=1e-4)
    assert float(state.baseline) == 0.5  # the mean of the first batch
    state = controller.observe(state, decisions, np.array([0.9, 0.7]))
    assert float(state.baseline) == pytest.approx(0.8 * 0.5 + 0.2 * 0.8) and int(state.steps) == 2
    assert controller.best(state).tolist() == [1] * 16


@pytest.mark.parametrize(
    'controller',
    [Reinforce(BITS), AgingEvolution(BITS, latency, 26.0, band=0.5, population=20, tournament=5)],
    ids=['reinforce', 'evolution'],
)
def test_a_search_finds_what_is_wanted(controller):
    """One network of 65,536, in 800 tries; the first of them are right in half of their bits."""
    state, tried = run(controller, 200, 4)
    assert reward(tried[:20]).mean() < 0.6 and reward(tried[:64]).max() < 1
    assert reward(tried[-40:]).mean() > 0.8 and reward(tried).max() == 1
    if isinstance(controller, Reinforce):
        assert controller.best(state).tolist() == WANTED.tolist()


@pytest.mark.parametrize(
    'controller',
    [
        Reinforce(BITS),
        RandomInBand(BITS, latency, 18.0),
        AgingEvolution(BITS, latency, 19.0, population=8, tournament=4),
    ],
    ids=['reinforce', 'random', 'evolution'],
)
def test_a_search_that_goes_on_from_its_state_proposes_the_same(controller):
    """Its state as arrays, as a checkpoint has it, between two steps; no proposal depends on the one who asks."""
    straight, tried = run(controller, 12, 3)
    state, resumed = controller.init(), []
    for step in range(12):
        leaves, structure = jax.tree.flatten(state)
        state = jax.tree.unflatten(structure, [np.array(leaf) for leaf in leaves])
        controller.propose(state, np.random.default_rng(99), 2)
        decisions = controller.propose(state, np.random.default_rng((0, step)), 3)
        state = controller.observe(state, decisions, reward(decisions))
        resumed.append(decisions)
    np.testing.assert_array_equal(np.concatenate(resumed), tried)
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), straight, state)
    assert all(jax.tree.leaves(same))
    shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (controller.init(), state)]
    assert shapes[0] == shapes[1]


def test_random_networks_are_in_the_band_and_uniform_there():
    controller = RandomInBand(BITS, latency, target=18.0, band=17.5 / 18)
    (decisions,) = [run(controller, 1, 4000)[1]]
    assert set(latency(decisions)) == {18.0}
    np.testing.assert_allclose(decisions.mean(axis=0), 0.5, atol=0.05)


def test_evolution_keeps_to_the_latency_and_lets_the_oldest_die():
    controller = AgingEvolution(BITS, latency, target=18.0, band=0.9, population=10, tournament=10, mutation_rate=0.2)
    state, tried = run(controller, 30, 2)
    assert latency(tried).max() <= 18 and latency(tried[:10]).min() >= 0.9 * 18
    np.testing.assert_array_equal(np.roll(state.decisions, -(60 % 10), axis=0), tried[-10:])
    # With a tournament of all, every child is a change of the best one alive; half of the drawn bits are the same.
    state = state._replace(rewards=np.arange(10.0))
    children = controller.propose(state, np.random.default_rng(5), 200)
    changed = (children != state.decisions[9]).mean(axis=1)
    assert changed.min() > 0 and changed.mean() == pytest.approx(0.1, abs=0.03)


def test_impossible_targets_are_refused_in_one_line():
    with pytest.raises(UserError) as caught:
        RandomInBand(BITS, latency, target=9.0).propose((), np.random.default_rng(0), 5)
    assert str(caught.value) == (
        'search.target_ms=9: of 819200 random networks of bits 0 take 8.1 to 9 ms, where 5 are needed; they take 10.0 '
        'to 26.0 ms.'
    )
    with pytest.raises(UserError, match='^search.tournament=65 must be in 1 .. 64, the population'):
        AgingEvolution(BITS, latency, 18.0, tournament=65)
    with pytest.raises(UserError, match='^search.learning_rate=0 must be positive'):
        Reinforce(BITS, learning_rate=0)
