"""The rounds of NetAdapt, with a training that is a formula: choices, and going on from any moment."""

import numpy as np
import pytest
from test_netadapt import SPEC, milliseconds

from mobilenets_jax.errors import RunError, UserError
from mobilenets_jax.search import netadapt
from mobilenets_jax.search.adaptation import Adaptation, SearchState
from mobilenets_jax.search.channels import Channels, count
from mobilenets_jax.search.population import Trained, Variables
from mobilenets_jax.training.state import tree_sha256

CHANNELS = Channels(SPEC)
PENALTIES = {group: 1 + 5 * number % 7 for number, group in enumerate(CHANNELS.widths)}


def parameters():
    """What the norms of the filters are taken of: kernels alone."""
    rng, tree = np.random.default_rng(0), {}
    for layer in CHANNELS.layers:
        if layer.writes and not layer.depthwise:
            node = tree
            for part in layer.path.split('/'):
                node = node.setdefault(part, {})
            width = CHANNELS.widths[layer.writes]
            node['kernel'] = rng.normal(size=(CHANNELS.widths.get(layer.reads, 3), width))
    return tree


PARAMS = parameters()


def lost(params):
    """How much of a network is gone: of each group the share of its filters that are 0, weighed by its penalty."""
    return sum(PENALTIES[group] * np.mean(CHANNELS.norms(params, group) == 0) for group in CHANNELS.widths)


class Formula:
    """Candidates lose accuracy by `lost`; training adds a little that depends on the round."""

    num_steps, batch_size = 10, 8

    def __init__(self, slots, stop_after=None, fails=()):
        self.slots, self.stop_after, self.fails, self.calls, self.positions = slots, stop_after, fails, 0, []

    def measure(self, variables):
        return 70.0 - lost(variables.params)

    def train(self, candidates, position):
        assert 0 < len(candidates) <= self.slots
        self.calls += 1
        if self.stop_after is not None and self.calls > self.stop_after:
            return None
        self.positions.append(position)
        statistics = [{'mean': np.full(3, 100.0 * lost(one.params) + position)} for one in candidates]
        scores = [70.0 - lost(one.params) + position / 1e4 for one in candidates]
        scores = [None if round(score, 3) in self.fails else score for score in scores]
        return Trained(scores, lambda number: Variables(candidates[number].params, statistics[number]))


def adaptation(population, target, saved=None, said=None, percent=4.0):
    return Adaptation(
        channels=CHANNELS,
        milliseconds=milliseconds,
        population=population,
        target=target,
        saved_percent=percent,
        save=(saved if saved is not None else []).append,
        say=(said if said is not None else []).append,
    )


def start():
    return Variables(PARAMS, {'mean': np.zeros(3)})


@pytest.fixture(scope='module')
def target():
    return 0.7 * milliseconds(SPEC)


@pytest.fixture(scope='module')
def uninterrupted(target):
    saved = []
    search = adaptation(Formula(slots=1), target, saved)
    return search.run(search.first(start())), saved


def test_every_round_is_that_of_brute_force(uninterrupted, target):
    """All networks that differ in one group and save enough, the widest of each, by accuracy for a millisecond."""
    last, _ = uninterrupted
    saved = 0.04 * milliseconds(SPEC)
    kept, score, before = CHANNELS.all_kept, 70.0, milliseconds(SPEC)
    params = PARAMS
    for number, row in enumerate(last.rounds):
        best = None
        for group, width in count(kept).items():
            if group == 'stem' or group.endswith('squeezed'):
                continue
            for narrower in range(width - 8, 0, -8):
                widths = {**count(kept), group: narrower}
                latency = milliseconds(CHANNELS.narrowed(widths))
                if before - latency >= saved and CHANNELS.keeps_expansions(widths):
                    chosen = CHANNELS.strongest(params, kept, group, narrower)
                    masked = CHANNELS.masked(params, chosen)
                    accuracy = 70.0 - lost(masked) + 80 * number / 1e4
                    ratio = (accuracy - score) / (before - latency)
                    if best is None or ratio > best[0]:
                        best = (ratio, group, narrower, latency, accuracy, chosen, masked)
                    break
        _, group, narrower, latency, accuracy, kept, params = best
        assert (row['group'], row['width']) == (group, narrower)
        assert row['milliseconds'] == pytest.approx(latency) and row['accuracy'] == pytest.approx(accuracy)
        assert before - row['milliseconds'] >= saved
        score, before = accuracy, latency
    assert before <= target < last.rounds[-2]['milliseconds']
    assert len({row['group'] for row in last.rounds}) > 3
    np.testing.assert_equal(last.network.kept, kept)
    np.testing.assert_equal(last.network.variables.params, params)
    assert milliseconds(CHANNELS.narrowed(count(kept))) == last.milliseconds


@pytest.mark.parametrize('slots', [1, 4, 100])
def test_search_killed_at_any_moment_ends_the_same(uninterrupted, target, slots):
    """From each state that was saved, on any number of devices: the same rounds and the same arrays, by their hash."""
    last, saved = uninterrupted
    assert [state.step for state in saved] == list(range(1, last.step + 1))
    wanted = tree_sha256(last.arrays)
    for state in saved[:: 1 if slots == 4 else 7]:
        restored = SearchState.restored(state.arrays, state.facts)
        population = Formula(slots)
        ended = adaptation(population, target).run(restored)
        assert tree_sha256(ended.arrays) == wanted
        assert ended.facts == last.facts
        assert all(position % 80 == 0 for position in population.positions)


def test_lower_target_goes_on(uninterrupted, target):
    last, _ = uninterrupted
    further = adaptation(Formula(slots=4), 0.8 * target).run(last)
    assert further.rounds[: len(last.rounds)] == last.rounds and len(further.rounds) > len(last.rounds)
    assert further.milliseconds <= 0.8 * target


def test_stopped_search_returns_nothing(target):
    saved = []
    search = adaptation(Formula(slots=3, stop_after=2), target, saved)
    assert search.run(search.first(start())) is None
    assert [len(state.tried) for state in saved] == [3, 6]


def test_candidate_that_is_not_finite_is_never_taken(uninterrupted, target):
    last, _ = uninterrupted
    taken = last.rounds[0]
    said = []
    search = adaptation(Formula(slots=4, fails={round(taken['accuracy'], 3)}), target, said=said)
    ended = search.run(search.first(start()))
    assert ended.rounds[0]['group'] != taken['group']
    assert sum('not finite' in line for line in said) >= 1


def test_says_why_it_cannot_go_on():
    everything = {round(70.0 - step / 1000, 3) for step in range(20_000)}
    search = adaptation(Formula(slots=4, fails=everything), 0.5 * milliseconds(SPEC))
    with pytest.raises(RunError, match='^round 1: the loss of all 10 candidates is not finite'):
        search.run(search.first(start()))
    search = adaptation(Formula(slots=100), 0.01 * milliseconds(SPEC))
    with pytest.raises(RunError, match=r'no proposal saves .* ms any more'):
        search.run(search.first(start()))
    with pytest.raises(UserError, match=r'search.target_ms=1000.0 is not below the .* ms of the start'):
        adaptation(Formula(slots=4), 1000.0)
    with pytest.raises(UserError, match=r'search.saved_percent=0.0 must be above 0'):
        adaptation(Formula(slots=4), 0.1, percent=0.0)
    assert netadapt.proposals(CHANNELS, CHANNELS.widths, milliseconds, 1000.0) == []
