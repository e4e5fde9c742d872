"""The one training loop: resume, then step, log, evaluate, save, in a fixed order.

The loop knows no task, data set, checkpoint format or evaluator: it is handed them. So that a run can stop anywhere and
go on as if it had not, all that a step depends on is the state, its step and its position in the training stream: every
batch is the next `batch_size` examples of that stream, and every random choice is keyed by seed, step, device and
example.
"""

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from mobilenets_jax.errors import RunError
from mobilenets_jax.training import parallel
from mobilenets_jax.training.profiling import ProfiledStep
from mobilenets_jax.training.progress import Progress
from mobilenets_jax.training.replicas import ReplicaError, check_replicas
from mobilenets_jax.training.schedules import Schedule
from mobilenets_jax.training.state import TrainState
from mobilenets_jax.training.task import Task, headline_metric
from mobilenets_jax.training.watchdog import Watchdog

PyTree = Any


class Checkpoints(Protocol):
    """What the loop asks of `mobilenets_jax.checkpoints.CheckpointManager`, where the methods are described."""

    def save(self, step: int, state: PyTree, *, meta: Mapping, metric: float | None = None) -> None: ...  # noqa: D102
    def wait(self) -> None: ...  # noqa: D102


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How long a run is and how often it reports, all in steps; and where to.

    Attributes:
        total_steps: length of the run.
        batch_size: global.
        log_every: between progress lines.
        eval_every: between evaluations; the last step is always evaluated.
        checkpoint_every: between checkpoints; the last step is always saved.
        replica_check_every: between comparisons of the copies of the state; they are also compared before each save.
        hang_timeout_seconds: a step, evaluation or save that takes longer ends the process, see `watchdog`.
        profile_steps: the first and the last step of a trace, see `profiling`; None for no trace.
        wandb_project: that its metrics are written to, see `wandb_scalars`; '' for none.
    """

    total_steps: int
    batch_size: int
    log_every: int
    eval_every: int
    checkpoint_every: int
    replica_check_every: int
    hang_timeout_seconds: float
    profile_steps: tuple[int, int] | None = None
    wandb_project: str = ''

    def due(self, step: int, every: int) -> bool:
        """Whether something done each `every` steps is due after `step` updates."""
        return step == self.total_steps or step % every == 0


class NonFiniteLossError(RunError):
    """The loss or a gradient became infinite or not a number."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        state: the last state, replicated.
        evaluation: metrics of the last evaluation, {} if there was none.
        preempted: whether it stopped early, saved, because it was asked to.
    """

    state: TrainState
    evaluation: Mapping[str, float]
    preempted: bool


def train(
    state: TrainState,
    train_step: Callable,
    task: Task,
    batches: Callable[[int], Iterator[PyTree]],
    evaluate: Callable[[TrainState], Mapping[str, float]],
    checkpoints: Checkpoints,
    progress: Progress,
    schedule: Schedule,
    options: LoopOptions,
    stop: Callable[[int], bool],
    start_position: int = 0,
    facts: Mapping[str, Any] | None = None,
    profile_folder: str | os.PathLike = '',
) -> Outcome:
    """Trains from `state` to `options.total_steps`.

    Args:
        state: initial or restored; training continues from `state.step`, at most `options.total_steps`.
        train_step: `step.make_train_step`, mapped over the devices.
        task: the task to train: it names the metrics.
        batches: from a position in the training stream, counted in examples, to NumPy batches from there on.
        evaluate: measures a state on the evaluation set; the task's headline decides which checkpoint is the best.
        checkpoints: saves the state.
        progress: gets the metrics.
        schedule: the learning rate, for the log.
        options: length and intervals.
        stop: from the number of steps to whether to save and end now; see `stop_signals.StopSignals.reached`.
        start_position: how many examples of the training stream `state` was trained on.
        facts: kept with every checkpoint, such as the resolved config.
        profile_folder: of the trace that `options.profile_steps` asks for.

    Raises:
        NonFiniteLossError: a loss or gradient is not finite; the state is not saved then.
        ReplicaError: the devices hold different states; likewise. The metrics until then are written in both cases.
    """
    step = start_step = int(state.step)
    state = parallel.replicate(state)
    if step == options.total_steps:  # a finished run, started again: only the results are made again
        return Outcome(state, evaluate(state), preempted=False)

    def save(score: float | None) -> None:
        position = start_position + (step - start_step) * options.batch_size
        meta = {**(facts or {}), 'position': position, 'timing': dataclasses.asdict(progress.timing)}
        checkpoints.save(step, state, meta=meta, metric=score)

    window = _Window(task, progress, schedule, step)
    best_by = headline_metric(task)
    evaluation: Mapping[str, float] = {}
    stream = parallel.put_batches(batches(start_position))
    profiled_step = ProfiledStep(train_step, options.profile_steps, profile_folder, start_step)
    with (
        Watchdog(options.hang_timeout_seconds) as watchdog,
        contextlib.closing(stream),
        contextlib.closing(profiled_step),
    ):
        while step < options.total_steps:
            # The order matters: a checkpoint must hold exactly `step` updates, and only states whose loss is finite.
            with progress.measured('input'):
                batch = next(stream)
            state, metrics = profiled_step(state, batch)
            step += 1
            window.add(metrics)
            preempted = stop(step) and step < options.total_steps
            evaluating = options.due(step, options.eval_every) and not preempted
            saving = options.due(step, options.checkpoint_every) or preempted
            if options.due(step, options.log_every) or evaluating or saving:
                window.log(step)
            if options.due(step, options.replica_check_every) or saving:
                with progress.measured('replica_check'), window.logged_on_error(step):
                    check_replicas(state, step)
            if evaluating:
                watchdog.reset()
                with progress.measured('evaluation'):
                    evaluation = evaluate(state)
                progress.evaluation(step, evaluation)
            if saving:
                watchdog.reset()
                score = best_by.score(evaluation[best_by.name]) if evaluating else None
                progress.checkpoint(step, functools.partial(save, score))
            if preempted:
                break
            watchdog.reset()
        with progress.measured('checkpoint'):
            checkpoints.wait()
    return Outcome(state, evaluation, preempted=preempted)


class _Window:
    """Metrics of the steps since the last log line, left on the devices until then."""

    def __init__(self, task: Task, progress: Progress, schedule: Schedule, step: int):
        self._task = task
        self._progress = progress
        self._schedule = schedule
        self._step = step
        self._metrics: list[PyTree] = []
        self._compiled = False

    def add(self, metrics: PyTree) -> None:
        """Adds one step's metrics without waiting for them."""
        self._metrics.append(metrics)
        if not self._compiled:
            jax.block_until_ready(metrics)
            self._progress.first_step()
            self._compiled = True
            self._step += 1

    def log(self, step: int) -> None:
        """Fetches and reports the window; then raises `NonFiniteLossError` if a loss in it is not finite."""
        fetched = [parallel.to_host(metrics) for metrics in self._metrics]
        total = {
            name: np.asarray(np.sum([row[name] for row in fetched], axis=0, dtype=np.float64)) for name in fetched[0]
        }
        l2, grad_norm = float(total.pop('l2')), float(total.pop('grad_norm'))
        metrics = {name: float(value) for name, value in self._task.training_metrics(total).items()}
        first, self._metrics = step - len(fetched) + 1, []
        metrics['loss'] += l2 / len(fetched)
        metrics |= {'learning_rate': float(self._schedule(step - 1)), 'grad_norm': grad_norm / len(fetched)}
        self._progress.train(step, metrics, timed_steps=step - self._step)
        self._step = step
        # A gradient that is not finite leaves the loss alone until the next step.
        if not math.isfinite(float(total['loss']) + l2 + grad_norm):
            terms = [
                metric.label
                for metric in self._task.logged
                if metric.name != 'loss' and not math.isfinite(metrics[metric.name])
            ]
            named = f' ({", ".join(terms)})' if terms else ''
            raise NonFiniteLossError(
                f'A loss or gradient is not finite in steps {first} to {step}{named}; none of them was saved.'
            )

    @contextlib.contextmanager
    def logged_on_error(self, step: int) -> Iterator[None]:
        """Reports the window if the body finds that the devices differ, since the run ends then."""
        try:
            yield
        except ReplicaError:
            if self._metrics:
                self.log(step)
            raise
