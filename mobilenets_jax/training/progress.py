"""What people look at while a run goes on: a progress line, `metrics.jsonl` and TensorBoard scalars.

Only the primary process writes; on the others every method does nothing.
"""

import dataclasses
import json
import time
from collections.abc import Mapping

import jax
from etils import epath

from mobilenets_jax.config import write_text


@dataclasses.dataclass
class Timing:
    """Where a run's time went, over all of its processes; kept in the checkpoints.

    Attributes:
        seconds: wall time from the start of training, compilation, evaluation and saving included.
        training_seconds: the part of it spent on `timed_steps`.
        timed_steps: training steps, but for those that compiled.
    """

    seconds: float = 0.0
    training_seconds: float = 0.0
    timed_steps: int = 0


class Progress:
    """Writes a run's metrics, and counts its images a second.

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
        self._timing = timing or Timing()
        self._mark = time.perf_counter()
        self._started = self._mark - self._timing.seconds
        self._rows: list[dict] = []
        self._tensorboard = None
        if self._primary:
            self._rows = [row for row in read_metrics(self._path) if row['step'] <= start_step]
            self._tensorboard = _tensorboard_writer(workdir / 'tensorboard', start_step)

    def restart_clock(self) -> None:
        """Starts timing: what went on since the last call or log is not counted as training."""
        self._mark = time.perf_counter()

    def count_steps(self, steps: int) -> float:
        """Counts `steps` trained since the clock was (re)started; returns their images a second."""
        seconds = time.perf_counter() - self._mark
        self._timing.training_seconds += seconds
        self._timing.timed_steps += steps
        self.restart_clock()
        return steps * self._batch_size / seconds

    @property
    def timing(self) -> Timing:
        """Where the time went until now."""
        return dataclasses.replace(self._timing, seconds=time.perf_counter() - self._started)

    @property
    def images_per_second(self) -> float:
        """Of all timed steps; 0 before the first."""
        timing = self._timing
        return timing.timed_steps * self._batch_size / timing.training_seconds if timing.timed_steps else 0.0

    def train(self, step: int, metrics: Mapping[str, float]) -> None:
        """Prints the progress line and writes the metrics of the steps since the last one."""
        remaining = self._total_steps - step
        rate = metrics['images_per_second']
        eta = _clock(remaining * self._batch_size / rate) if rate else '-'
        self._say(
            f'step {step}/{self._total_steps}  loss {metrics["loss"]:.4f}  accuracy {metrics["accuracy"]:.2f} %  '
            f'learning rate {metrics["learning_rate"]:.3g}  {rate:.0f} images/s  ETA {eta}'
        )
        self._write('train', step, metrics)

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
            self._tensorboard.close()

    def _say(self, line: str) -> None:
        if self._primary:
            print(line, flush=True)

    def _write(self, kind: str, step: int, metrics: Mapping[str, float]) -> None:
        if not self._primary:
            return
        self._rows.append({'kind': kind, 'step': step, **metrics})
        # Written anew, since object stores cannot append; some thousand short rows at most.
        write_text(self._path, ''.join(json.dumps(row) + '\n' for row in self._rows))
        if self._tensorboard is not None:
            for name, value in metrics.items():
                self._tensorboard.add_scalar(f'{kind}/{name}', value, step)


def read_metrics(path: epath.Path) -> list[dict]:
    """The rows of a `metrics.jsonl`; [] if there is none."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _tensorboard_writer(directory: epath.Path, start_step: int):
    try:
        from tensorboardX import SummaryWriter

        return SummaryWriter(str(directory), purge_step=start_step + 1 if start_step else None)
    except ImportError as error:  # of tensorboardX itself, or of what it needs to write to a bucket
        print(f'no TensorBoard scalars ({error}); metrics.jsonl has them all', flush=True)
        return None


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else f'{minutes}:{seconds:02d}'
