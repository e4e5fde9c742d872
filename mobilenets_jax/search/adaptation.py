"""The rounds of NetAdapt: proposals, a short training of each, and the choice of one, until the network is fast enough.

A search is saved after each time that candidates were trained, one on each device. Whatever it does next follows from
what was saved, so that it may be killed at any moment, and go on on other devices, and ends with the same network.

See `netadapt` for papers and differences.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mobilenets_jax.errors import RunError, UserError, check
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.search.channels import Channels, Kept, count
from mobilenets_jax.search.netadapt import Milliseconds, Proposal, best_of, proposals
from mobilenets_jax.search.population import Population, Variables

PyTree = Any
Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A trained network, some of whose channels are kept.

    Attributes:
        variables: masked; see `channels`.
        kept: which channels.
    """

    variables: Variables
    kept: Kept


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchState:
    """Everything that a checkpoint holds of a search.

    Attributes:
        network: of this round.
        best: of the candidates that were trained in this round the one that the round would take; before any has a
            score, the round's network.
        score: of the round's network, the higher the better.
        milliseconds: of the round's network.
        start: 'score' and 'milliseconds' of the network that the search began with.
        tried: of each candidate of this round, in their order: 'group', 'width', 'milliseconds' and 'accuracy' (its
            score, or None).
        rounds: of each round before: the row of the candidate that was taken, with the others as 'tried'.
    """

    network: Network
    best: Network
    score: float
    milliseconds: float
    start: Row
    tried: tuple[Row, ...] = ()
    rounds: tuple[Row, ...] = ()

    @property
    def step(self) -> int:
        """How many candidates were trained, in all rounds."""
        return len(self.tried) + sum(len(row['tried']) for row in self.rounds)

    @property
    def arrays(self) -> dict[str, PyTree]:
        """What of it are arrays, by names that no path in it has parts of."""
        return {
            name: {'params': one.variables.params, 'batch_stats': one.variables.batch_stats, 'kept': dict(one.kept)}
            for name, one in (('network', self.network), ('best', self.best))
        }

    @property
    def facts(self) -> dict[str, Any]:
        """All else, JSON-able."""
        names = ('score', 'milliseconds', 'start', 'tried', 'rounds')
        return {name: getattr(self, name) for name in names}

    @classmethod
    def restored(cls, arrays: Mapping[str, Mapping[str, PyTree]], facts: Row) -> 'SearchState':
        """From `arrays` and `facts` as a checkpoint has them."""
        networks = {
            name: Network(variables=Variables(tree['params'], tree['batch_stats']), kept=tree['kept'])
            for name, tree in arrays.items()
        }
        lists = {name: tuple(facts[name]) for name in ('tried', 'rounds')}
        return cls(**networks, **{**facts, **lists})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adaptation:
    """A search.

    Attributes:
        channels: of the network that it begins with.
        milliseconds: the latency of a network.
        population: trains and measures the candidates.
        target: the search ends with a network that takes so many milliseconds, or fewer.
        saved_percent: what a proposal saves at least, in percent of the latency that the search began with.
        save: is handed the state when it is worth saving.
        say: is handed a line about what happened.
    """

    channels: Channels
    milliseconds: Milliseconds
    population: Population
    target: float
    saved_percent: float
    save: Callable[[SearchState], None]
    say: Callable[[str], None]

    def __post_init__(self):
        check(self.target > 0, 'search.target_ms', self.target, 'must be positive')
        percent = self.saved_percent
        check(0 < percent < 100, 'search.saved_percent', percent, 'must be above 0 and below 100')
        before = self.milliseconds(self.spec(self.channels.all_kept))
        check(self.target < before, 'search.target_ms', self.target, f'is not below the {before:.3f} ms of the start')

    def spec(self, kept: Kept) -> NetworkSpec:
        """The network of these channels."""
        return self.channels.narrowed(count(kept))

    def first(self, variables: Variables) -> SearchState:
        """The state before the first round.

        Raises:
            UserError: the network's score is not finite.
        """
        score, kept = self.population.measure(variables), self.channels.all_kept
        if score is None:
            raise UserError('init_from: the network that the search is to start from has no finite score.')
        milliseconds = self.milliseconds(self.spec(kept))
        network = Network(variables=variables, kept=kept)
        start = {'score': score, 'milliseconds': milliseconds}
        return SearchState(network=network, best=network, score=score, milliseconds=milliseconds, start=start)

    def run(self, state: SearchState) -> SearchState | None:
        """Goes on until the target is reached.

        Returns:
            The last state; None where it was asked to stop, with all saved but the candidates in training.

        Raises:
            RunError: no proposal saves enough any more, or none of a round could be trained.
        """
        while state.milliseconds > self.target:
            saved = self.saved_percent / 100 * state.start['milliseconds']
            offered = proposals(self.channels, count(state.network.kept), self.milliseconds, saved)
            if not offered:
                raise RunError(
                    f'search.target_ms={self.target:g}: no proposal saves {saved:.3g} ms of {state.milliseconds:.3f} '
                    'ms any more. What is found so far is kept; a search in another workdir, with a smaller '
                    'search.saved_percent, goes further.'
                )
            state = self._train(state, offered)
            if state is None:
                return None
            if len(state.tried) == len(offered):
                state = self._taken(state)
            self.save(state)
        return state

    def _train(self, state: SearchState, offered: list[Proposal]) -> SearchState | None:
        """The state with the next candidates of a round tried, as many as there are devices."""
        network, params = state.network, state.network.variables.params
        chosen = offered[len(state.tried) :][: self.population.slots]
        kept = [self.channels.strongest(params, network.kept, proposal.group, proposal.width) for proposal in chosen]
        candidates = [Variables(self.channels.masked(params, one), network.variables.batch_stats) for one in kept]
        position = len(state.rounds) * self.population.num_steps * self.population.batch_size
        trained = self.population.train(candidates, position)
        if trained is None:
            return None
        widths = count(network.kept)
        rows = []
        for proposal, score in zip(chosen, trained.scores, strict=True):
            rows.append({**proposal._asdict(), 'from': widths[proposal.group], 'accuracy': score})
            number = len(state.tried) + len(rows)
            self.say(f'round {len(state.rounds) + 1}, candidate {number} of {len(offered)}: {_line(rows[-1])}')
        tried = (*state.tried, *rows)
        best = best_of(tried, (state.score, state.milliseconds))
        number = -1 if best is None else best - len(state.tried)
        if number < 0:  # one of those before
            return dataclasses.replace(state, tried=tried)
        best_network = Network(variables=trained.variables(number), kept=kept[number])
        return dataclasses.replace(state, tried=tried, best=best_network)

    def _taken(self, state: SearchState) -> SearchState:
        """The state at the beginning of the next round."""
        number = best_of(state.tried, (state.score, state.milliseconds))
        if number is None:
            raise RunError(
                f'round {len(state.rounds) + 1}: the loss of all {len(state.tried)} candidates is not finite.'
            )
        row = state.tried[number]
        self.say(f'round {len(state.rounds) + 1} takes {_line(row)}')
        return dataclasses.replace(
            state,
            network=state.best,
            score=row['accuracy'],
            milliseconds=row['milliseconds'],
            tried=(),
            rounds=(*state.rounds, {**row, 'tried': [dict(one) for one in state.tried]}),
        )


def _line(row: Row) -> str:
    accuracy = 'not finite' if row['accuracy'] is None else f'{row["accuracy"]:.2f}'
    return f'{row["group"]} {row["from"]} -> {row["width"]}, {row["milliseconds"]:.3f} ms, {accuracy}'


def abstract_arrays(channels: Channels, params: PyTree, batch_stats: PyTree) -> dict[str, PyTree]:
    """Shapes and dtypes of `SearchState.arrays`, from those of the network's variables."""
    kept = {group: np.empty(width, bool) for group, width in channels.widths.items()}
    tree = {'params': params, 'batch_stats': batch_stats, 'kept': kept}
    return {'network': tree, 'best': tree}
