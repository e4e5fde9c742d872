"""What a run leaves for people: `summary.json`, the curves as a PNG, and in the end a table.

Both files are written anew at each evaluation, so that they are there however the run ends. The curves are drawn by a
thread beside the training, and nothing that goes wrong with them ends a run.
"""

import math
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from mobilenets_jax.config import write_bytes, write_json
from mobilenets_jax.errors import one_line
from mobilenets_jax.report.curves import Curves, draw_curves
from mobilenets_jax.training.loop import Outcome
from mobilenets_jax.training.parallel import to_host
from mobilenets_jax.training.progress import Progress, read_metrics
from mobilenets_jax.training.state import num_params, tree_sha256
from mobilenets_jax.training.task import Measures

PARTS = ('startup', 'training', 'input', 'evaluation', 'checkpoint', 'replica_check')  # of the run's time
DRAWING_SECONDS = 20  # how long the end of a run waits for a drawing


class RunReport:
    """Writes `summary.json` and `curves.png` of a run; for its primary process.

    Args:
        workdir: of the run.
        model: the name of its network.
        num_params: of its network.
        measures: how the metrics are called and written.
    """

    def __init__(self, workdir: epath.Path, model: str, num_params: int, measures: Measures):
        self._workdir = workdir
        self._measures = measures
        self._model = model
        self._num_params = num_params
        self._drawing: threading.Thread | None = None

    def update(self, progress: Progress, step: int, evaluation: Mapping[str, float]) -> None:
        """Writes the results after an evaluation; the curves follow a moment later.

        Args:
            progress: of the run.
            step: the last one.
            evaluation: its metrics, {} if there was none.
        """
        summary = self._summary(progress, step, evaluation)
        never_ending_the_run('summary.json', lambda: write_json(self._workdir / 'summary.json', summary))
        if self._drawing is None or not self._drawing.is_alive():  # else the next one draws these rows, too
            self._drawing = threading.Thread(target=self._draw, daemon=True, name='curves')
            self._drawing.start()

    def stop(self, progress: Progress, step: int) -> None:
        """Writes the state of a run that stopped before its end."""
        rows = never_ending_the_run('summary.json', lambda: read_metrics(self._workdir / 'metrics.jsonl')) or []
        evaluated = [row for row in rows if row.get('kind') == 'eval']
        self._wait()
        self.update(progress, step, evaluated[-1] if evaluated else {})
        self._wait()

    def finish(self, progress: Progress, outcome: Outcome) -> dict[str, Any]:
        """Writes the results of a run that went to its end, prints the table, and returns what `summary.json` has."""
        state = to_host(outcome.state)
        summary = self._summary(progress, int(state.step), outcome.evaluation) | {
            'finished': True,
            'num_params': num_params(state.params),
            'params_sha256': tree_sha256(state.params),
            'ema_sha256': None if state.ema_params is None else tree_sha256(state.ema_params),
        }
        write_json(self._workdir / 'summary.json', summary)
        self._wait()
        self._draw()
        print(format_summary(summary, self._measures), flush=True)
        return summary

    def _summary(self, progress: Progress, step: int, evaluation: Mapping[str, float]) -> dict[str, Any]:
        timing = progress.timing
        measured = [*(metric.name for metric in self._measures.metrics), 'count']
        return {
            'finished': False,
            'model': self._model,
            'step': step,
            'num_params': self._num_params,
            **{f'test_{name}': _finite(evaluation.get(name)) for name in measured},
            'seconds': timing.seconds,
            'starts': timing.starts,
            **{f'{part}_percent': timing.percent(part) for part in PARTS},
            'images_per_second': progress.images_per_second,
            'params_sha256': None,
            'ema_sha256': None,
        }

    def _draw(self) -> None:
        def draw() -> None:
            rows = read_metrics(self._workdir / 'metrics.jsonl')
            write_bytes(self._workdir / 'curves.png', draw_curves([Curves('', rows)], self._measures, self._model))

        never_ending_the_run('curves.png', draw)

    def _wait(self) -> None:
        if self._drawing is not None:
            self._drawing.join(DRAWING_SECONDS)


def never_ending_the_run(name: str, write: Callable[[], Any]) -> Any:
    """Calls `write`; an error becomes a line on standard error."""
    try:
        return write()
    except Exception as error:  # Matplotlib, fonts, file systems and buckets raise anything
        print(f'{name} was not written: {one_line(error)}', file=sys.stderr, flush=True)
        return None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def format_summary(summary: Mapping[str, Any], measures: Measures) -> str:
    """The end-of-run table."""
    rows = {
        'model': summary['model'],
        'parameters': f'{summary["num_params"]:,}',
        'steps': f'{summary["step"]:,}',
        **{f'test {metric.label}': metric.written(summary[f'test_{metric.name}']) for metric in measures.metrics},
        'test images': f'{summary["test_count"]:,}',
        'time': f'{summary["seconds"]:.0f} s',
        'starting and compiling': f'{summary["startup_percent"]:.1f} %',
        'in training steps': f'{summary["training_percent"]:.1f} %',
        '  of it waiting for images': f'{summary["input_percent"]:.1f} %',
        'evaluating': f'{summary["evaluation_percent"]:.1f} %',
        'waiting for checkpoints': f'{summary["checkpoint_percent"]:.1f} %',
        'comparing replicas': f'{summary["replica_check_percent"]:.1f} %',
        'starts': f'{summary["starts"]}',
        'speed': f'{summary["images_per_second"]:.0f} images/s',
    }
    names, values = (max(map(len, column)) for column in (rows, rows.values()))
    line = f'+{"-" * (names + 2)}+{"-" * (values + 2)}+'
    return '\n'.join([line, *(f'| {name:<{names}} | {value:>{values}} |' for name, value in rows.items()), line])
