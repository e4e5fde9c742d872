"""What people look at while a run goes on: a progress line, `metrics.jsonl` and scalars of TensorBoard and W&B.

Only the primary process writes; on the others every method does nothing.
"""

import contextlib
import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from etils import epath

from mobilenets_jax.buckets import is_bucket
from mobilenets_jax.config import write_text
from mobilenets_jax.errors import UserError
from mobilenets_jax.training.task import Measures
from mobilenets_jax.training.wandb_scalars import WandbScalars

# What of a row depends on the machine and its faults, not on the run.
TIMING_METRICS = ('images_per_second', 'step_seconds', 'input_percent', 'training_percent', 'seconds', 'starts')
MAX_STEP = 2**31 - 1  # of an int32, which a state counts its steps in


@dataclasses.dataclass
class Timing:
    """Where a run's time went, over all of its processes; kept in the checkpoints.

    Attributes:
        seconds: wall time from the start of training, compilation, evaluation, saving and steps that a kill undid
            included; the time between two processes is not.
        training_seconds: the part of it spent on `timed_steps`.
        timed_steps: training steps, but for those that compiled.
        startup_seconds: of each process until its first step was done, which compiles.
        input_seconds: spent waiting for batches; part of training_seconds, or of startup_seconds for the first one.
        evaluation_seconds: spent on evaluations.
        checkpoint_seconds: how long training waited for checkpoints, most of which are written in the background.
        replica_check_seconds: spent on comparing the devices' copies of the state.
        starts: how often the run was started.
    """

    seconds: float = 0.0
    training_seconds: float = 0.0
    timed_steps: int = 0
    startup_seconds: float = 0.0
    input_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    replica_check_seconds: float = 0.0
    starts: int = 0

    @classmethod
    def saved(cls, values: Mapping[str, Any]) -> 'Timing':
        """Of a checkpoint, whose version may have known other parts of the time."""
        return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls) if field.name in values})

    def percent(self, part: str) -> float:
        """The share that `part`, e.g. 'training', has in the run's time, in [0, 100]."""
        return 100 * getattr(self, f'{part}_seconds') / self.seconds


class Progress:
    """Writes a run's metrics, and keeps account of its time.

    Args:
        workdir: holds `metrics.jsonl` and `tensorboard/`.
        measures: how the metrics are called and written.
        total_steps: length of the run.
        batch_size: global.
        start_step: where this process goes on; metrics that an earlier process wrote beyond it are dropped.
        timing: of the earlier processes.
        wandb_project: of Weights & Biases, which gets the metrics, too; '' for none.
        config: of the run, for Weights & Biases.
        after_evaluation: is called with this object, the step and the metrics after each evaluation.
    """

    def __init__(
        self,
        workdir: epath.Path,
        *,
        measures: Measures,
        total_steps: int,
        batch_size: int,
        start_step: int,
        timing: Timing | None = None,
        wandb_project: str = '',
        config: Mapping[str, Any] | None = None,
        after_evaluation: Callable[['Progress', int, Mapping[str, float]], None] | None = None,
    ):
        self._measures = measures
        self._after_evaluation = after_evaluation
        self._total_steps = total_steps
        self._batch_size = batch_size
        self._primary = jax.process_index() == 0
        self._path = workdir / 'metrics.jsonl'
        self._rows: list[dict] = []
        self._tensorboard = self._wandb = None
        earlier = []
        if self._primary:
            earlier = read_metrics(self._path, repair=True)
            self._rows = [row for row in earlier if row['step'] <= start_step]
            self._tensorboard = _tensorboard_writer(workdir / 'tensorboard', start_step)
            if wandb_project:
                self._wandb = WandbScalars(workdir, wandb_project, config or {})
        self._timing = timing or Timing()
        # The metrics know of steps behind the last checkpoint, whose time is lost.
        self._timing.starts = 1 + max([self._timing.starts, *(row.get('starts') or 0 for row in earlier)])
        elapsed = max([self._timing.seconds, *(row.get('seconds') or 0.0 for row in earlier)])
        self._started = time.perf_counter() - elapsed
        self._restart_clock()

    def first_step(self) -> None:
        """Counts the time until now as that of starting: the first step says nothing about the speed of the others."""
        self._timing.startup_seconds += time.perf_counter() - self._mark
        self._restart_clock()

    def _restart_clock(self) -> None:
        self._mark = time.perf_counter()
        self._input_mark = self._timing.input_seconds

    @contextlib.contextmanager
    def measured(self, part: str) -> Iterator[None]:
        """Counts the time of the body as `part` of the `Timing`; only 'input' is part of the training."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        field = f'{part}_seconds'
        setattr(self._timing, field, getattr(self._timing, field) + seconds)
        if part != 'input':
            self._mark += seconds

    @property
    def timing(self) -> Timing:
        """Where the time went until now."""
        return dataclasses.replace(self._timing, seconds=time.perf_counter() - self._started)

    @property
    def images_per_second(self) -> float:
        """Of all timed steps; 0 before the first."""
        timing = self._timing
        return timing.timed_steps * self._batch_size / timing.training_seconds if timing.timed_steps else 0.0

    def train(self, step: int, metrics: Mapping[str, float], timed_steps: int) -> None:
        """Prints the progress line and writes the metrics of the steps since the last one.

        Args:
            step: the last of them.
            metrics: those that the task has `logged`, 'learning_rate' and others.
            timed_steps: how many of them were trained since the last call or `first_step`.
        """
        metrics = {**metrics, **self._count(timed_steps)}
        rate = metrics['images_per_second']
        eta = _clock((self._total_steps - step) * self._batch_size / rate) if rate else '-'
        logged = [f'{metric.label} {metric.written(metrics[metric.name])}  ' for metric in self._measures.logged]
        self._print(
            f'step {step}/{self._total_steps}  {"".join(logged)}'
            f'learning rate {metrics["learning_rate"]:.3g}  {rate:.0f} images/s  '
            f'{1000 * metrics["step_seconds"]:.0f} ms/step, {metrics["input_percent"]:.0f} % of it input  '
            f'training {metrics["training_percent"]:.0f} % of the time  ETA {eta}'
        )
        self._write('train', step, metrics)

    def _count(self, steps: int) -> dict[str, float]:
        """Counts `steps` trained since the last call or `first_step`; returns `TIMING_METRICS`."""
        timing = self._timing
        seconds = time.perf_counter() - self._mark
        waited = timing.input_seconds - self._input_mark
        if steps:
            timing.training_seconds += seconds
            timing.timed_steps += steps
        self._restart_clock()
        now = self.timing
        return {
            'images_per_second': steps * self._batch_size / seconds if steps else self.images_per_second,
            'step_seconds': seconds / max(steps, 1),
            'input_percent': 100 * waited / seconds,
            'training_percent': now.percent('training'),
            'seconds': now.seconds,
            'starts': now.starts,
        }

    def checkpoint(self, step: int, save: Callable[[], None]) -> None:
        """Saves, and prints how long training waited for it."""
        before = self._timing.checkpoint_seconds
        with self.measured('checkpoint'):
            save()
        waited = self._timing.checkpoint_seconds - before
        self._print(f'step {step}/{self._total_steps}  checkpoint: training waited {waited:.2f} s')

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Prints and writes the metrics of an evaluation, and the 'count' of its examples where it has any."""
        told = [metric for metric in self._measures.metrics if metric.in_progress]
        measured = [f'{metric.label} {metric.written(metrics[metric.name])}  ' for metric in told]
        examples = f'({metrics["count"]} examples)' if 'count' in metrics else ''
        self._print(f'step {step}/{self._total_steps}  evaluation: {"".join(measured)}{examples}'.rstrip())
        self._write('eval', step, metrics)
        if self._primary and self._after_evaluation is not None:
            with self.measured('evaluation'):
                self._after_evaluation(self, step, metrics)

    def close(self) -> None:
        """Flushes the scalars of TensorBoard and Weights & Biases."""
        if self._wandb is not None:
            self._wandb.close()
        if self._tensorboard is not None:
            with contextlib.suppress(OSError):  # a full disk, which takes nothing else that the run needs
                self._tensorboard.close()

    def _print(self, line: str) -> None:
        if self._primary:
            print(line, flush=True)

    def _write(self, kind: str, step: int, metrics: Mapping[str, float]) -> None:
        if not self._primary:
            return
        self._rows.append({'kind': kind, 'step': step, **finite_or_none(metrics)})
        # Written anew, since object stores cannot append; some thousand short rows at most.
        _write_rows(self._path, self._rows)
        if self._wandb is not None:
            self._wandb.add(kind, step, finite_or_none(metrics))
        self._write_scalars(kind, step, metrics)

    def _write_scalars(self, kind: str, step: int, metrics: Mapping[str, float]) -> None:
        if self._tensorboard is None:
            return
        # Its thread ends when the disk is full, and would let this one wait for ever.
        if not self._tensorboard.file_writer.event_writer._worker.is_alive():
            print('no more TensorBoard scalars: they cannot be written; metrics.jsonl has them all', file=sys.stderr)
            self._tensorboard = None
            return
        for name, value in finite_or_none(metrics).items():
            if value is not None:
                self._tensorboard.add_scalar(f'{kind}/{name}', value, step)


def read_metrics(path: epath.Path, *, repair: bool = False) -> list[dict]:
    """The rows of a `metrics.jsonl`; [] if there is none.

    Lines that are no rows of this project are left out, with one line on standard error that counts them.

    Args:
        path: local or gs://.
        repair: whether they are taken out of the file, too; the whole of it is then kept beside it.

    Returns:
        Rows with a 'kind', a 'step' and numbers by their names; None for one that is not finite.

    Raises:
        UserError: the file itself cannot be read.
    """
    if not path.exists():
        return []
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror or error}.') from error
    lines = {number: line for number, line in enumerate(content.split(b'\n'), 1) if line.strip()}
    rows = {number: _row(line) for number, line in lines.items()}
    damaged = [number for number, row in rows.items() if row is None]
    intact = [row for row in rows.values() if row is not None]
    if damaged:
        kept = ''
        if repair:
            copy = _unused(path.parent / 'metrics.damaged.jsonl')
            copy.write_bytes(content)
            _write_rows(path, intact)
            kept = f'; the file as it was is kept as {copy.name}'
        line = f'{len(damaged)} of {len(lines)} lines cannot be read and are left out, first line {damaged[0]}'
        print(f'WARNING: {path}: {line}{kept}', file=sys.stderr, flush=True)
    return intact


def _row(line: bytes) -> dict | None:
    """The row that a line holds; None where it is damaged or another program's."""
    try:
        row = json.loads(line.decode('utf-8-sig'))
        kind, step = row['kind'], row['step']
        metrics = {name: _number(value) for name, value in row.items() if name not in ('kind', 'step')}
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    known = isinstance(kind, str) and type(step) is int and 0 <= step <= MAX_STEP
    return {'kind': kind, 'step': step, **metrics} if known else None


def _number(value: object) -> float | None:
    """A metric; None where it is not finite. Raises `TypeError` or `OverflowError` for what is none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    return value if math.isfinite(value) else None


def _unused(path: epath.Path) -> epath.Path:
    """`path`, or with a number where there is such a file."""
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f'metrics.damaged.{number}.jsonl')
    return path


def _write_rows(path: epath.Path, rows: list[dict]) -> None:
    write_text(path, ''.join(json.dumps(row) + '\n' for row in rows))


def finite_or_none(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """The metrics with null for what is not finite, of which JSON knows nothing."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _tensorboard_writer(directory: epath.Path, start_step: int):
    try:
        from tensorboardX import SummaryWriter

        return SummaryWriter(str(directory), purge_step=start_step + 1 if start_step else None, max_queue=1000)
    except Exception as error:  # of tensorboardX, or of its client for buckets, which is another than that of the run
        if not (isinstance(error, ImportError) or is_bucket(directory)):
            raise
        reason = ' '.join(str(error).split())
        print(f'no TensorBoard scalars ({reason}); metrics.jsonl has them all', file=sys.stderr, flush=True)
        return None


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else f'{minutes}:{seconds:02d}'
