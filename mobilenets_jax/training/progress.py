"""What people look at while a run goes on: a progress line, `metrics.jsonl` and TensorBoard scalars.

Only the primary process writes; on the others every method does nothing.
"""

import contextlib
import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import jax
from etils import epath

from mobilenets_jax.config import write_text

# What of a row depends on the machine and its faults, not on the run.
TIMING_METRICS = ('images_per_second', 'step_seconds', 'input_percent', 'training_percent', 'seconds', 'starts')


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

    def percent(self, part: str) -> float:
        """The share that `part`, e.g. 'training', has in the run's time, in [0, 100]."""
        return 100 * getattr(self, f'{part}_seconds') / self.seconds


class Progress:
    """Writes a run's metrics, and keeps account of its time.

    Args:
        workdir: holds `metrics.jsonl` and `tensorboard/`.
        total_steps: length of the run.
        batch_size: global.
        start_step: where this process goes on; metrics that an earlier process wrote beyond it are dropped.
        timing: of the earlier processes.
    """

    def __init__(
        self, workdir: epath.Path, *, total_steps: int, batch_size: int, start_step: int, timing: Timing | None = None
    ):
        self._total_steps = total_steps
        self._batch_size = batch_size
        self._primary = jax.process_index() == 0
        self._path = workdir / 'metrics.jsonl'
        self._rows: list[dict] = []
        self._tensorboard = None
        earlier = []
        if self._primary:
            earlier = read_metrics(self._path)
            self._rows = [row for row in earlier if row['step'] <= start_step]
            self._tensorboard = _tensorboard_writer(workdir / 'tensorboard', start_step)
        self._timing = timing or Timing()
        # The metrics know of steps behind the last checkpoint, whose time is lost.
        self._timing.starts = 1 + max([self._timing.starts, *(row.get('starts', 0) for row in earlier)])
        elapsed = max([self._timing.seconds, *(row.get('seconds', 0.0) for row in earlier)])
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
            metrics: 'loss', 'accuracy', 'learning_rate' and others.
            timed_steps: how many of them were trained since the last call or `first_step`.
        """
        metrics = {**metrics, **self._count(timed_steps)}
        rate = metrics['images_per_second']
        eta = _clock((self._total_steps - step) * self._batch_size / rate) if rate else '-'
        self._say(
            f'step {step}/{self._total_steps}  loss {metrics["loss"]:.4f}  accuracy {metrics["accuracy"]:.2f} %  '
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
        self._say(f'step {step}/{self._total_steps}  checkpoint: training waited {waited:.2f} s')

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Prints and writes the metrics of an evaluation."""
        self._say(
            f'step {step}/{self._total_steps}  evaluation: top-1 {metrics["top1"]:.2f} %  '
            f'top-5 {metrics["top5"]:.2f} %  loss {metrics["loss"]:.4f}  ({metrics["count"]} examples)'
        )
        self._write('eval', step, metrics)

    def close(self) -> None:
        """Flushes the TensorBoard scalars."""
        if self._tensorboard is not None:
            with contextlib.suppress(OSError):  # a full disk, which takes nothing else that the run needs
                self._tensorboard.close()

    def _say(self, line: str) -> None:
        if self._primary:
            print(line, flush=True)

    def _write(self, kind: str, step: int, metrics: Mapping[str, float]) -> None:
        if not self._primary:
            return
        self._rows.append({'kind': kind, 'step': step, **_finite_or_none(metrics)})
        # Written anew, since object stores cannot append; some thousand short rows at most.
        write_text(self._path, ''.join(json.dumps(row) + '\n' for row in self._rows))
        self._write_scalars(kind, step, metrics)

    def _write_scalars(self, kind: str, step: int, metrics: Mapping[str, float]) -> None:
        if self._tensorboard is None:
            return
        # Its thread ends when the disk is full, and would let this one wait for ever.
        if not self._tensorboard.file_writer.event_writer._worker.is_alive():
            print('no more TensorBoard scalars: they cannot be written; metrics.jsonl has them all', file=sys.stderr)
            self._tensorboard = None
            return
        for name, value in _finite_or_none(metrics).items():
            if value is not None:
                self._tensorboard.add_scalar(f'{kind}/{name}', value, step)


def read_metrics(path: epath.Path) -> list[dict]:
    """The rows of a `metrics.jsonl`; [] if there is none."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _finite_or_none(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """The metrics with null for what is not finite, of which JSON knows nothing."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _tensorboard_writer(directory: epath.Path, start_step: int):
    try:
        from tensorboardX import SummaryWriter

        return SummaryWriter(str(directory), purge_step=start_step + 1 if start_step else None, max_queue=1000)
    except ImportError as error:  # of tensorboardX itself, or of what it needs to write to a bucket
        print(f'no TensorBoard scalars ({error}); metrics.jsonl has them all', flush=True)
        return None


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else f'{minutes}:{seconds:02d}'
