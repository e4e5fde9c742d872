"""Search by networks that are trained one by one from scratch, each for a short while, as MnasNet was found.

A controller proposes some networks. Each device trains one of them, and measures it on images that are held out; its
reward is of that accuracy and of its latency, and the controller learns from the rewards of all. Networks have their
own shapes, so that a small one costs little, and any space can be searched; each is compiled once, a small part of the
epochs that the papers train. (Candidates that are parts of one network are one program in `population`.)

A search is saved after each time that networks were trained, one on each device. What it does next follows from what
was saved, so that it may be killed at any moment, also go on on other devices, and ends with the same network.

Paper: Tan et al., MnasNet, 1807.11626, section 4.2 and 5: 8,000 networks, 5 epochs each, the one with the best reward.
Differs: the controller is REINFORCE over independent softmaxes, see `controllers`, where MnasNet's is a recurrent
    network trained by PPO.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mobilenets_jax.errors import RunError, check
from mobilenets_jax.search.controllers import Controller
from mobilenets_jax.search.population import Batch, add_sums, for_each_device, gathered
from mobilenets_jax.training import parallel
from mobilenets_jax.training.state import TrainState, evaluated_variables

PyTree = Any
Row = Mapping[str, Any]
Decisions = np.ndarray  # int [C]


class Child(NamedTuple):
    """A network that is to be trained.

    Attributes:
        state: before its first step.
        step: from (state, batch) to the state after an update and the task's sums, see `parallel.single_device_step`.
        evaluate: from (params, statistics, batch) to the task's sums, likewise.
    """

    state: TrainState
    step: Callable
    evaluate: Callable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Children:
    """How networks are trained and measured, one on each device.

    Attributes:
        create: the network of some decisions.
        train_batches: the batches of the training stream, [1, batch_size, ...], from its beginning on.
        eval_batches: those of the set to measure on, padded.
        score: from the task's sums over that set to the accuracy, in percent.
        num_steps: updates of each network.
        stop: whether to end, called after each update with the number of those that this process has made.
        log_every: updates between two lines about the losses.
        say: is handed these lines.
    """

    create: Callable[[Decisions], Child]
    train_batches: Callable[[], Iterator[Batch]]
    eval_batches: Callable[[], Iterator[Batch]]
    score: Callable[[Mapping[str, np.ndarray]], float]
    num_steps: int
    stop: Callable[[int], bool]
    log_every: int
    say: Callable[[str], None]
    _updates: Iterator[int] = dataclasses.field(default_factory=lambda: itertools.count(1))

    @property
    def slots(self) -> int:
        """How many networks are trained at a time."""
        return jax.device_count()

    def train(self, chosen: Sequence[Decisions]) -> list[float | None] | None:
        """Trains and measures at most `slots` networks; called with the same ones by every process.

        Returns:
            Of each network its accuracy in percent, or None where its loss is not finite; None where it was asked to
            stop.
        """
        first = jax.process_index() * jax.local_device_count()
        own = [self.create(decisions) for decisions in chosen[first : first + jax.local_device_count()]]
        states = [parallel.put_on(child.state, device) for device, child in enumerate(own)]
        metrics: list[Mapping[str, jax.Array]] = []
        stream = parallel.put_batches(map(for_each_device, self.train_batches()))
        try:
            for step in range(1, self.num_steps + 1):
                before, batches = metrics, parallel.of_devices(next(stream))
                done = [child.step(*one) for child, *one in zip(own, states, batches, strict=False)]
                states, metrics = [state for state, _ in done], [sums for _, sums in done]
                jax.block_until_ready(before)  # so that no device is more than a step behind
                if self.stop(next(self._updates)):
                    return None
                if step % self.log_every == 0 and step < self.num_steps:
                    losses = ' '.join(f'{_mean_loss(sums):.4f}' for sums in metrics)
                    self.say(f'step {step}/{self.num_steps}  loss {losses}')
        finally:
            stream.close()
        scores = self._scores(own, states)
        finite = [math.isfinite(float(sums['loss']) + float(sums['grad_norm'])) for sums in metrics]
        return gathered([score if known else None for score, known in zip(scores, finite, strict=True)])

    def _scores(self, own: Sequence[Child], states: Sequence[TrainState]) -> list[float | None]:
        variables = [evaluated_variables(vars(state), 'ema') for state in states]
        totals: list[dict[str, np.ndarray]] = [{} for _ in own]
        for batch in parallel.put_batches(map(for_each_device, self.eval_batches())):
            batches = parallel.of_devices(batch)
            # All of them are started before any is waited for.
            sums = [
                child.evaluate(*of_child, one) for child, of_child, one in zip(own, variables, batches, strict=False)
            ]
            for total, of_child in zip(totals, sums, strict=True):
                add_sums(total, jax.device_get(of_child))
        scores = [float(self.score(total)) for total in totals]
        return [score if math.isfinite(score) else None for score in scores]


def _mean_loss(sums: Mapping[str, jax.Array]) -> float:
    return float(sums['loss']) / float(sums['count'])


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchState:
    """Everything that a checkpoint holds of a search.

    Attributes:
        controller: its state before the networks of this round, arrays.
        rows: of each network that was trained: 'decisions', 'milliseconds', 'accuracy' in percent (None: its loss was
            not finite) and 'reward'.
    """

    controller: PyTree
    rows: tuple[Row, ...] = ()

    @property
    def step(self) -> int:
        """How many networks were trained."""
        return len(self.rows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StandAlone:
    """A search.

    Attributes:
        controller: proposes networks.
        seed: of the proposals; those of a round depend on it, the round and the controller's state alone.
        milliseconds: of decisions.
        reward: of accuracies in [0, 1] and milliseconds.
        children: trains and measures.
        num_networks: how many are trained.
        networks_per_update: after so many the controller learns.
        save: is handed the state when it is worth saving.
        say: is handed a line about what happened.
    """

    controller: Controller
    seed: int
    milliseconds: Callable[[Decisions], float]
    reward: Callable[[float, float], float]
    children: Children
    num_networks: int
    networks_per_update: int
    save: Callable[[SearchState], None]
    say: Callable[[str], None]

    def __post_init__(self):
        for field in ('num_networks', 'networks_per_update'):
            check(getattr(self, field) > 0, f'search.{field}', getattr(self, field), 'must be positive')

    def first(self) -> SearchState:
        """The state before the first network."""
        return SearchState(controller=self.controller.init())

    def run(self, state: SearchState) -> SearchState | None:
        """Goes on until all networks are trained; None where it was asked to stop, saved but those in training."""
        while state.step < self.num_networks:
            number, done = divmod(state.step, self.networks_per_update)
            count = min(self.networks_per_update, self.num_networks - number * self.networks_per_update)
            proposed = self.controller.propose(state.controller, np.random.default_rng((self.seed, number)), count)
            chosen = proposed[done : done + self.children.slots]
            accuracies = self.children.train(chosen)
            if accuracies is None:
                return None
            rows = [self._row(*one) for one in zip(chosen, accuracies, strict=True)]
            for offset, row in enumerate(rows, start=state.step + 1):
                self.say(f'network {offset} of {self.num_networks}: {_line(row)}')
            state = dataclasses.replace(state, rows=(*state.rows, *rows))
            if done + len(rows) == count:
                rewards = np.array([row['reward'] for row in state.rows[-count:]])
                learnt = self.controller.observe(state.controller, proposed, rewards)
                state = dataclasses.replace(state, controller=learnt)
            self.save(state)
        return state

    def _row(self, decisions: Decisions, accuracy: float | None) -> Row:
        milliseconds = float(self.milliseconds(decisions))
        reward = float(self.reward((accuracy or 0.0) / 100, milliseconds))
        facts = {'milliseconds': milliseconds, 'accuracy': accuracy, 'reward': reward}
        return {'decisions': [int(decision) for decision in decisions], **facts}


def best_of(rows: Sequence[Row]) -> Row | None:
    """The network of the best reward, the first of equals; None where none could be trained."""
    trained = [row for row in rows if row['accuracy'] is not None]
    return max(trained, key=lambda row: row['reward'], default=None)


def found_of(rows: Sequence[Row]) -> Row:
    """The same; raises `RunError` where none could be trained."""
    best = best_of(rows)
    if best is None:
        raise RunError(f'the loss of all {len(rows)} networks is not finite.')
    return best


def _line(row: Row) -> str:
    accuracy = 'not finite' if row['accuracy'] is None else f'{row["accuracy"]:.2f} %'
    return f'{row["milliseconds"]:.3f} ms, {accuracy}, reward {row["reward"]:.4f}'
