"""Every command serves a task that this project does not have: none of them knows what is learnt."""

import csv
import json
import os
from pathlib import Path

import brightness
import numpy as np
import pytest
from launching import ROOT, read_rows, read_summary
from PIL import Image

from mobilenets_jax.__main__ import main
from mobilenets_jax.data import Layout, create_dataset
from mobilenets_jax.errors import UserError
from mobilenets_jax.tasks import TASKS
from mobilenets_jax.weights import load_pretrained

SCRIPT = Path(brightness.__file__)
CONFIG = f'--config={SCRIPT.with_name("brightness_config.py")}'


@pytest.fixture
def workdir(made_once, launcher):
    """Of a run of 120 steps, evaluated every 20; its output is in `output.txt`."""

    def train(folder):
        ended = launcher.run(SCRIPT, 'train.py', CONFIG, f'--workdir={folder}')
        assert ended.status == 0, ended
        (folder / 'output.txt').write_text('\n'.join(ended.output))

    return made_once('brightness', train)


@pytest.fixture
def registered(monkeypatch):
    """The task in this process."""
    monkeypatch.setitem(TASKS, brightness.NAME, brightness.Brightness())
    monkeypatch.setitem(brightness.base.TASK_FIELDS, brightness.NAME, lambda config: None)


def test_run_keeps_the_lowest_of_a_metric_that_is_the_better_the_lower(workdir):
    rows = read_rows(workdir)
    errors = {row['step']: row['error'] for row in rows if row['kind'] == 'eval'}
    best = min(errors, key=errors.get)
    assert len(errors) == 6 and best != max(errors, key=errors.get) and best != 120
    assert sorted(folder.name for folder in (workdir / 'checkpoints').iterdir()) == sorted([str(best), '120'])
    assert {frozenset(row) for row in rows if row['kind'] == 'train'} == {
        frozenset({'kind', 'step', 'loss', 'far', 'learning_rate', 'grad_norm'})
    }
    summary = read_summary(workdir)
    assert (summary['finished'], summary['test_error'], summary['test_count']) == (True, errors[120], 360)
    assert not any('top' in name or name == 'test_loss' for name in summary)
    output = (workdir / 'output.txt').read_text()
    assert f'evaluation: mean error {errors[20]:.3f} %  largest error ' in output and 'off by ' in output
    assert f'| test mean error            | {errors[120]:>16.3f} % |' in output
    with Image.open(workdir / 'curves.png') as picture:
        assert picture.format == 'PNG'


def test_best_checkpoint_is_evaluated_and_reported_by_the_task(workdir, launcher, tmp_path):
    arguments = (CONFIG, f'--workdir={workdir}', '--step=best', f'--report={tmp_path}', '--config.batch_size=50')
    ended = launcher.run(SCRIPT, 'eval.py', *arguments, devices=2)
    assert ended.status == 0, ended
    said = json.loads(ended.output[-1])
    assert list(said) == ['model', 'error', 'worst', 'count', 'step', 'params', 'report']
    errors = {row['step']: row['error'] for row in read_rows(workdir) if row['kind'] == 'eval'}
    assert (said['step'], said['count']) == (min(errors, key=errors.get), 360)
    assert said['error'] == pytest.approx(min(errors.values()), rel=1e-3)
    estimates = [float(row['estimate']) for row in csv.DictReader((tmp_path / 'estimates.csv').open())]
    (batch,) = create_dataset('digits', image_size=8, batch_size=360, seed=0).eval_batches(Layout(0, 1, 1))
    truth = batch['image'][0].astype(np.float64).mean(axis=(1, 2, 3)) / 255
    assert 100 * np.abs(estimates - truth).mean() == pytest.approx(said['error'], rel=1e-3)


def test_commands_take_names_and_pictures_from_the_task(workdir, registered, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for name in ('JAX_PLATFORMS', 'XLA_FLAGS'):  # which `compile` changes
        monkeypatch.setenv(name, os.environ[name])
    assert main(['compare', str(workdir), f'--out={tmp_path}/curves.png']) == 0
    errors = [row['error'] for row in read_rows(workdir) if row['kind'] == 'eval']
    header, line, _ = capsys.readouterr().out.splitlines()
    assert header.split()[3:7] == ['mean', 'error', 'best', 'at']
    assert line.split()[3:5] == [f'{errors[-1]:.3f}', f'{min(errors):.3f}'] and line.split()[6] == '-'
    assert main(['inspect', CONFIG, '--images=16', f'--out={tmp_path}/batch.png']) == 0
    assert 'brightest: 0.' in capsys.readouterr().out
    assert main(['predict', f'--workdir={workdir}', 'photo.png', '--json']) == 0
    assert json.loads(capsys.readouterr().out) == [{'image': 'photo.png'}]
    assert main(['compile', CONFIG, '--topology=cpu:8', '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    products = 3 * 1  # of a line through three numbers, for each of 8 images a device
    assert (report['per_device'], report['needed_flops']) == (8, 2 * 3 * products * 8)


def test_checkpoint_of_another_task_is_refused(workdir, launcher, capsys, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob('*')}
    ended = launcher.run('train.py', '--config=configs/digits.py', f'--workdir={workdir}')
    assert (ended.status, ended.output, ended.errors) == (
        *(2, []),
        [
            "error: checkpoint 120 is of the task 'brightness'; the run asks for 'classification'. "
            'Give the run a directory of its own.'
        ],
    )
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob('*')} == before
    with pytest.raises(UserError, match=r"^weights='.*' is a run of the task 'brightness', no classifier\.$"):
        load_pretrained(str(workdir))
    assert main(['predict', f'--workdir={workdir}', 'photo.png']) == 2
    assert (
        capsys.readouterr().err
        == "error: task='brightness' is unknown. Known: classification, detection, segmentation.\n"
    )
    (tmp_path / 'metrics.jsonl').write_text('{"kind": "eval", "step": 1, "top1": 50.0}\n')
    assert main(['compare', str(tmp_path), str(workdir)]) == 2
    assert capsys.readouterr().err == (
        f"error: {workdir} is of the task 'brightness', {tmp_path} of 'classification': "
        'they measure different things.\n'
    )
