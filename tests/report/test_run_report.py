"""What a run leaves while it goes on, when it stops, and in the end; and that no drawing ends it."""

import json
import math
import threading

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mobilenets_jax.report import curves
from mobilenets_jax.report import run as run_report
from mobilenets_jax.report.curves import Curves, draw_curves
from mobilenets_jax.report.run import RunReport
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.loop import Outcome
from mobilenets_jax.training.progress import Progress
from mobilenets_jax.training.state import TrainState, tree_sha256

EVALUATION = {'top1': 12.5, 'top5': 50.0, 'loss': 2.25, 'count': 8}
TRAINING = {'loss': 3.0, 'accuracy': 10.0, 'learning_rate': 0.1}


@pytest.fixture
def report(tmp_path):
    return RunReport(tmp_path, 'mobilenet_v1', 7, ClassificationTask)


@pytest.fixture
def progress(tmp_path, report):
    made = Progress(
        tmp_path,
        measures=ClassificationTask,
        total_steps=10,
        batch_size=8,
        start_step=0,
        after_evaluation=report.update,
    )
    made.first_step()
    yield made
    made.close()


def summary(workdir):
    return json.loads((workdir / 'summary.json').read_text(), parse_constant=lambda name: pytest.fail(name))


def is_picture(path):
    with Image.open(path) as image:
        return image.format == 'PNG' and image.size == (1200, 480)


def test_both_files_are_there_after_an_evaluation(report, progress, tmp_path):
    progress.train(2, TRAINING, timed_steps=2)
    progress.evaluation(2, EVALUATION)
    said = summary(tmp_path)
    assert (said['finished'], said['step'], said['num_params']) == (False, 2, 7)
    assert [said[f'test_{name}'] for name in EVALUATION] == list(EVALUATION.values())
    report._wait()
    assert is_picture(tmp_path / 'curves.png')
    before = progress.timing.evaluation_seconds
    progress.evaluation(4, EVALUATION | {'loss': math.nan})
    assert summary(tmp_path)['test_loss'] is None and progress.timing.evaluation_seconds > before


def test_a_run_that_stops_leaves_its_last_evaluation(report, progress, tmp_path):
    report.stop(progress, 1)  # before the first evaluation
    assert summary(tmp_path)['test_top1'] is None and is_picture(tmp_path / 'curves.png')
    progress.evaluation(2, EVALUATION)
    (tmp_path / 'curves.png').unlink(missing_ok=True)
    report.stop(progress, 3)
    said = summary(tmp_path)
    assert (said['finished'], said['step'], said['test_top1']) == (False, 3, 12.5)
    assert is_picture(tmp_path / 'curves.png')


def test_a_run_that_ends_leaves_its_hashes_and_prints_the_table(report, progress, tmp_path, capsys):
    params = {'kernel': jnp.ones((2, 3))}
    state = TrainState(jnp.int32(10), params, {}, (), None, None)
    report.finish(progress, Outcome(state, EVALUATION, preempted=False))
    said = summary(tmp_path)
    assert (said['finished'], said['step'], said['num_params']) == (True, 10, 6)
    assert said['params_sha256'] == tree_sha256({'kernel': np.ones((2, 3), np.float32)}) and said['ema_sha256'] is None
    assert is_picture(tmp_path / 'curves.png')
    assert '12.50 %' in capsys.readouterr().out


def test_no_drawing_ends_a_run(report, progress, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError('no font\nat all')

    monkeypatch.setattr(run_report, 'draw_curves', fail)
    progress.evaluation(2, EVALUATION)
    report.stop(progress, 3)
    assert 'curves.png was not written: no font at all\n' in capsys.readouterr().err
    assert summary(tmp_path)['step'] == 3 and not (tmp_path / 'curves.png').exists()
    (tmp_path / 'summary.json').unlink()
    (tmp_path / 'summary.json').mkdir()
    progress.evaluation(4, EVALUATION)
    assert 'summary.json was not written: ' in capsys.readouterr().err


def test_one_drawing_at_a_time_and_none_is_waited_for(report, progress, monkeypatch):
    started, go_on, drawings = threading.Event(), threading.Event(), []

    def draw(*_):
        drawings.append(1)
        started.set()
        assert go_on.wait(60)
        return b''

    monkeypatch.setattr(run_report, 'draw_curves', draw)
    progress.evaluation(2, EVALUATION)
    assert started.wait(60)
    progress.evaluation(4, EVALUATION)  # comes back while the first is being drawn
    assert drawings == [1]
    go_on.set()
    report._wait()
    progress.evaluation(6, EVALUATION)
    report._wait()
    assert drawings == [1, 1]


@pytest.mark.parametrize('count', [1, 2, 11])
def test_rows_without_a_value_are_gaps(count, monkeypatch):
    drawn = []
    rows = [
        {'kind': 'train', 'step': 1, 'loss': 2.0, 'accuracy': 20.0},
        {'kind': 'train', 'step': 2, 'loss': None, 'accuracy': None},
        {'kind': 'eval', 'step': 2, 'top1': 30.0},
        {'kind': 'other'},
    ]
    original = curves.number
    monkeypatch.setattr(curves, 'number', lambda row, name: drawn.append(original(row, name)) or drawn[-1])
    assert draw_curves([Curves(f'run {number}', rows) for number in range(count)], ClassificationTask).startswith(
        b'\x89PNG'
    )
    assert drawn.count(2.0) == 3 * count  # the steps 2, 2 and the loss 2.0
    assert sum(map(math.isnan, drawn)) == 3 * count  # two losses and an accuracy


def test_an_evaluation_without_losses_has_no_line_of_them(monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, 'savefig', lambda figure, *_, **__: drawn.append(figure))
    rows = [{'kind': 'train', 'step': 1, 'loss': 2.0, 'accuracy': 20.0}, {'kind': 'eval', 'step': 2, 'top1': 30.0}]
    draw_curves([Curves('', rows)], ClassificationTask)
    assert [[line.get_label() for line in axes.lines] for axes in drawn[0].axes] == [
        ['training'],
        ['training', 'evaluation'],
    ]
