"""eval.py measures what it is asked for, in every form of asking, and refuses what does not belong together."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest
from launching import SHORT_RUN, read_state, read_summary

from mobilenets_jax.__main__ import main
from mobilenets_jax.data import Layout, create_dataset
from mobilenets_jax.models import create_model

FIELDS = {name: value for name, value in SHORT_RUN.items() if name != 'model.dropout_rate'}  # which concerns training
CONFIG = ' '.join(['--config=configs/digits.py', *(f'--config.{name}={value}' for name, value in FIELDS.items())])
KEYS = ['model', 'top1', 'top5', 'loss', 'count', 'step', 'params']

# Arguments, in which RUN is the workdir, and the step and the parameters that they ask for.
FORMS = [
    ('--workdir=RUN --report=REPORT', 12, 'ema'),
    ('--workdir RUN --step=8 --params=raw --config.batch_size=25', 8, 'raw'),
    pytest.param(f'{CONFIG} --checkpoint=RUN --params=raw --step=best', 12, 'raw', marks=pytest.mark.slow),
    pytest.param(f'{CONFIG} --checkpoint=RUN/checkpoints --params=ema', 12, 'ema', marks=pytest.mark.slow),
    (f'{CONFIG} --checkpoint=RUN/checkpoints/8', 8, 'ema'),
]


@pytest.fixture(scope='module')
def measure():
    """From parameters and statistics to metrics and predicted classes on the test set, in NumPy from the logits."""
    dataset = create_dataset('digits', image_size=32, batch_size=360, seed=0)
    (batch,) = dataset.eval_batches(Layout(process_index=0, process_count=1, local_device_count=1))
    labels = batch['label'][0]
    model = create_model(SHORT_RUN['model.name'], 10, SHORT_RUN['model.width_multiplier'], output_stride=16)

    @jax.jit
    def logits_of(params, batch_stats):
        images = dataset.device_preprocess({'image': batch['image'][0]}, train=False)
        return model.apply({'params': params, 'batch_stats': batch_stats}, images, train=False)[0]

    def measure(params, batch_stats):
        logits = np.asarray(logits_of(params, batch_stats), np.float64)
        own = logits[np.arange(len(labels)), labels]
        rank = (logits > own[:, None]).sum(axis=1)
        loss = np.log(np.exp(logits).sum(axis=1)) - own
        metrics = {'top1': 100 * np.mean(rank < 1), 'top5': 100 * np.mean(rank < 5), 'loss': np.mean(loss)}
        return metrics, labels.tolist(), logits.argmax(axis=1).tolist()

    return measure


@pytest.mark.parametrize(('arguments', 'step', 'which'), FORMS)
def test_result_is_that_of_the_parameters_asked_for(arguments, step, which, launcher, straight_run, measure, tmp_path):
    run, report = straight_run(), tmp_path / 'report'
    ended = launcher.run('eval.py', *arguments.replace('RUN', str(run)).replace('REPORT', str(report)).split())
    assert ended.status == 0, ended
    result = json.loads(ended.output[-1])
    assert list(result) == KEYS + (['report'] if 'REPORT' in arguments else [])
    assert {name: result[name] for name in ('model', 'count', 'step', 'params')} == {
        'model': 'mobilenet_v1',
        'count': 360,
        'step': step,
        'params': which,
    }
    state = read_state(run, step)
    prefix = 'ema_' if which == 'ema' else ''
    expected, labels, predicted = measure(state[f'{prefix}params'], state[f'{prefix}batch_stats'])
    assert {name: result[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert report.exists() == ('REPORT' in arguments)
    if report.exists():
        rows = list(csv.DictReader((report / 'predictions.csv').open()))
        assert [int(row['image']) for row in rows] == list(range(360))
        assert [int(row['label']) for row in rows] == labels
        assert [int(row['predicted']) for row in rows] == predicted
    if (step, which) == (12, 'ema'):
        summary = read_summary(run)
        assert [result[name] for name in ('top1', 'top5', 'loss')] == [
            summary[f'test_{name}'] for name in ('top1', 'top5', 'loss')
        ]
        card = (run / 'README.md').read_text()
        assert f'| top-1 | {result["top1"]:.2f} % |' in card and '(curves.png)' in card
        assert f'\npython -m mobilenets_jax eval --workdir={run.name}.unfinished --step=12\n' in card  # its first name
        assert '| model.width_multiplier | 0.25 |' in card and 'config.batch_size' not in card


@pytest.mark.slow
def test_a_mean_of_checkpoints_is_evaluated_as_a_run_and_trained_no_further(launcher, straight_run, measure, tmp_path):
    mean = tmp_path / 'mean'
    assert main(['average', str(straight_run()), f'--out={mean}', '--last=2']) == 0
    ended = launcher.run('eval.py', f'--workdir={mean}')
    assert ended.status == 0, ended
    states = [read_state(straight_run(), step) for step in (8, 12)]
    variables = [
        jax.tree.map(lambda one, other: (one + other) / 2, *(state[f'ema_{name}'] for state in states))
        for name in ('params', 'batch_stats')
    ]
    result, (expected, _, _) = json.loads(ended.output[-1]), measure(*variables)
    assert {name: result[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert (result['count'], result['step']) == (360, 12)
    ended = launcher.train(mean).end()
    assert (ended.status, ended.output) == (2, [])
    assert ended.errors == ["error: checkpoint 12 was saved without its 'position': no run can go on from it."]


@pytest.fixture
def copied_run(straight_run, tmp_path):
    return shutil.copytree(straight_run(), tmp_path / 'run')


def test_checkpoint_of_another_model_is_refused_by_training_and_left_alone(launcher, copied_run):
    before = {path: path.read_bytes() for path in copied_run.rglob('*') if path.is_file()}
    ended = launcher.train(copied_run, '--config.model.name=mobilenet_v3_small').end()
    assert (ended.status, ended.output) == (2, [])
    assert ended.errors == [
        f'error: checkpoint {copied_run}/checkpoints/12 holds mobilenet_v1; the run asks for mobilenet_v3_small. '
        'Give the run a directory of its own.'
    ]
    assert {path: path.read_bytes() for path in copied_run.rglob('*') if path.is_file()} == before


def test_checkpoint_of_another_class_count_is_refused_by_evaluation(launcher, straight_run):
    run = straight_run()
    ended = launcher.run('eval.py', *CONFIG.split(), f'--checkpoint={run}', '--config.model.num_classes=12')
    assert (ended.status, ended.output) == (2, [])
    assert ended.errors == [
        f'error: checkpoint {run}/checkpoints/12 holds mobilenet_v1 (num_classes=10); '
        'the run asks for mobilenet_v1 (num_classes=12). Give the run a directory of its own.'
    ]
