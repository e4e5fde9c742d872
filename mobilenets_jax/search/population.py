"""Candidates that are trained for a short while and measured, one on each device, with no reduction between devices.

All candidates have the same arrays, so that one compiled program trains them all. Each gets the same batches and draws
the same random numbers, so that its result depends neither on the device nor on how many there are.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from mobilenets_jax import hosts
from mobilenets_jax.training import parallel
from mobilenets_jax.training.state import TrainState, evaluated_variables
from mobilenets_jax.training.task import Task

PyTree = Any
Batch = Mapping[str, np.ndarray]


class Variables(NamedTuple):
    """Of a network, on the host: trainable parameters and running statistics."""

    params: PyTree
    batch_stats: PyTree


class Trained(NamedTuple):
    """What became of some candidates.

    Attributes:
        scores: of each candidate, the higher the better; None: its loss or its score is not finite.
        variables: from the number of a candidate to those that were measured; called by every process.
    """

    scores: list[float | None]
    variables: Callable[[int], Variables]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Population:
    """How candidates are trained and measured.

    Attributes:
        task: what is trained; without a reduction over the devices.
        train_step: as of `training.step.make_train_step` without `over_devices`, mapped by
            `parallel.parallel_candidates`.
        first_state: from parameters and statistics to the state before the first step.
        train_batches: from a position in the training stream to batches from there on, [1, batch_size, ...].
        eval_batches: from nothing to the batches of the set to measure on, padded, [1, batch_size, ...].
        score: from the task's sums over that set to what a candidate is compared by, higher is better.
        num_steps: updates of each candidate.
        batch_size: of each candidate.
        stop: whether to end, called after each update with the number of those that this process has made.
        log_every: updates between two lines about the losses of the candidates in training.
        say: is handed these lines.
    """

    task: Task
    train_step: Callable
    first_state: Callable[[PyTree, PyTree], TrainState]
    train_batches: Callable[[int], Iterator[Batch]]
    eval_batches: Callable[[], Iterator[Batch]]
    score: Callable[[Mapping[str, np.ndarray]], float]
    num_steps: int
    batch_size: int
    stop: Callable[[int], bool]
    log_every: int
    say: Callable[[str], None]

    @functools.cached_property
    def _eval_step(self) -> Callable:
        """From stacked parameters, statistics and batches to the task's sums of each device."""
        return parallel.parallel_candidates(lambda *arguments: self.task.evaluate(*arguments)[0])

    @functools.cached_property
    def _updates(self) -> Iterator[int]:
        """Counts those that this process makes."""
        return itertools.count(1)

    @property
    def slots(self) -> int:
        """How many candidates are trained at a time."""
        return jax.device_count()

    def measure(self, variables: Variables) -> float | None:
        """The score of a network as it is."""
        state = self._stacked([variables])
        return self._scores(state.params, state.batch_stats)[0]

    def train(self, candidates: Sequence[Variables], position: int) -> Trained | None:
        """Trains and measures at most `slots` candidates.

        Args:
            candidates: the same on every process.
            position: in the training stream, in examples, where all of them begin.

        Returns:
            None where it was asked to stop.
        """
        state = self._stacked(candidates)
        metrics = None
        stream = parallel.put_batches(map(for_each_device, self.train_batches(position)))
        try:
            for step in range(1, self.num_steps + 1):
                state, metrics = self.train_step(state, next(stream))
                if self.stop(next(self._updates)):
                    return None
                if step % self.log_every == 0 and step < self.num_steps:
                    self.say(f'step {step}/{self.num_steps}  {self._losses(metrics, len(candidates))}')
        finally:
            stream.close()
        params, batch_stats = evaluated_variables(vars(state), 'ema')
        scores = self._scores(params, batch_stats)
        finite = gathered(np.isfinite(_local(metrics['loss']) + _local(metrics['grad_norm'])).tolist())
        scores = [score if is_finite else None for score, is_finite in zip(scores, finite, strict=True)]

        def variables(number: int) -> Variables:
            return self._of_candidate(Variables(params, batch_stats), number)

        return Trained(scores[: len(candidates)], variables)

    def _stacked(self, candidates: Sequence[Variables]) -> TrainState:
        """The states of this process's candidates on its devices; devices that are left over repeat the last one."""
        first = jax.process_index() * jax.local_device_count()
        numbers = [min(first + device, len(candidates) - 1) for device in range(jax.local_device_count())]
        states = {number: jax.device_get(self.first_state(*candidates[number])) for number in sorted(set(numbers))}
        return parallel.put_stacked([states[number] for number in numbers])

    def _losses(self, metrics: Mapping[str, jax.Array], count: int) -> str:
        """The last training loss of each candidate of this process, as a line."""
        of_devices = {name: _local(values).astype(np.float64) for name, values in metrics.items()}
        losses = [
            self.task.training_metrics({name: values[device] for name, values in of_devices.items()})['loss']
            for device in range(min(count, jax.local_device_count()))
        ]
        return f'loss {" ".join(f"{loss:.4f}" for loss in losses)}'

    def _scores(self, params: PyTree, batch_stats: PyTree) -> list[float | None]:
        """Of what each device of all processes has."""
        totals: dict[str, np.ndarray] = {}
        for batch in parallel.put_batches(map(for_each_device, self.eval_batches())):
            sums = self._eval_step(params, batch_stats, batch)
            add_sums(totals, {name: _local(values) for name, values in sums.items()})
        scores = [
            self.score({name: values[device] for name, values in totals.items()})
            for device in range(jax.local_device_count())
        ]
        return gathered([float(score) if math.isfinite(score) else None for score in scores])

    def _of_candidate(self, stacked: Variables, number: int) -> Variables:
        """The variables of a candidate, on every process."""
        owner, device = divmod(number, jax.local_device_count())
        # A process that does not have it hands over an array of the same shape, which is not looked at.
        own = jax.tree.map(lambda leaf: np.array(parallel.local_shards(leaf)[device].data[0]), stacked)
        if jax.process_count() == 1:
            return own
        return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(own, jax.process_index() == owner))


def gathered(values: list) -> list:
    """The values of all processes, in the order of their devices; called by every process."""
    received = hosts.start_all_gather(values)
    return hosts.broadcast_from_primary(lambda: [value for of_host in received() for value in of_host])


def add_sums(totals: dict[str, np.ndarray], sums: Mapping[str, np.ndarray]) -> None:
    """Adds the sums of a batch to those of the batches before it, exactly where they are counts."""
    for name, values in sums.items():
        counts = np.issubdtype(values.dtype, np.integer)
        totals[name] = totals.get(name, 0) + values.astype(np.int64 if counts else np.float64)


def for_each_device(batch: Batch) -> Batch:
    """One batch for all local devices, [local_devices, batch_size, ...]."""
    count = jax.local_device_count()
    return {name: np.broadcast_to(leaf, (count, *leaf.shape[1:])) for name, leaf in batch.items()}


def _local(leaf: jax.Array) -> np.ndarray:
    """The same as one array, [local_devices, ...]."""
    return np.concatenate([np.asarray(shard.data) for shard in parallel.local_shards(leaf)])
