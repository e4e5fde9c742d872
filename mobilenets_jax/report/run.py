"""What a finished run leaves for people: `summary.json`, the curves as a PNG, and a table."""

import io
import math

import matplotlib
from etils import epath

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402 - the backend is chosen first

from mobilenets_jax.config import write_json  # noqa: E402
from mobilenets_jax.training.loop import Outcome  # noqa: E402
from mobilenets_jax.training.parallel import to_host  # noqa: E402
from mobilenets_jax.training.progress import Progress, read_metrics  # noqa: E402
from mobilenets_jax.training.state import num_params, tree_sha256  # noqa: E402

PARTS = ('startup', 'training', 'input', 'evaluation', 'checkpoint', 'replica_check')  # of the run's time


def finish_report(workdir: epath.Path, model: str, outcome: Outcome, progress: Progress) -> None:
    """Writes `summary.json` and `curves.png` into `workdir`, and prints the table."""
    state, timing = to_host(outcome.state), progress.timing
    summary = {
        'model': model,
        'step': int(state.step),
        'num_params': num_params(state.params),
        'test_top1': outcome.evaluation['top1'],
        'test_top5': outcome.evaluation['top5'],
        'test_loss': outcome.evaluation['loss'],
        'test_count': outcome.evaluation['count'],
        'seconds': timing.seconds,
        'starts': timing.starts,
        **{f'{part}_percent': timing.percent(part) for part in PARTS},
        'images_per_second': progress.images_per_second,
        'params_sha256': tree_sha256(state.params),
        'ema_sha256': None if state.ema_params is None else tree_sha256(state.ema_params),
    }
    write_json(workdir / 'summary.json', summary)
    plot_curves(workdir / 'metrics.jsonl', workdir / 'curves.png', title=model)
    print(format_summary(summary), flush=True)


def format_summary(summary: dict) -> str:
    """The end-of-run table."""
    rows = {
        'model': summary['model'],
        'parameters': f'{summary["num_params"]:,}',
        'steps': f'{summary["step"]:,}',
        'test top-1': f'{summary["test_top1"]:.2f} %',
        'test top-5': f'{summary["test_top5"]:.2f} %',
        'test loss': f'{summary["test_loss"]:.4f}',
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


def plot_curves(metrics_path: epath.Path, png_path: epath.Path, *, title: str) -> None:
    """Draws loss and accuracy over the steps, training and evaluation, from a `metrics.jsonl`."""
    rows = read_metrics(metrics_path)
    figure, (loss_axes, accuracy_axes) = plt.subplots(1, 2, figsize=(10, 4), layout='constrained')
    styles = {'train': ('accuracy', 'training', '-'), 'eval': ('top1', 'evaluation', 'o-')}
    for kind, (accuracy, label, style) in styles.items():
        chosen = [row for row in rows if row['kind'] == kind]
        steps = [row['step'] for row in chosen]
        # Not a number where a metric was not finite, which leaves a gap.
        losses, accuracies = ([_or_nan(row.get(name)) for row in chosen] for name in ('loss', accuracy))
        loss_axes.plot(steps, losses, style, label=label)
        accuracy_axes.plot(steps, accuracies, style, label=label)
    loss_axes.set(xlabel='step', ylabel='loss (in training with label smoothing and L2)', yscale='log')
    accuracy_axes.set(xlabel='step', ylabel='top-1 accuracy, %')
    for axes in (loss_axes, accuracy_axes):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    png = io.BytesIO()
    figure.savefig(png, dpi=120)
    plt.close(figure)
    png_path.write_bytes(png.getvalue())


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
