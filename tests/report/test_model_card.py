"""The model card of a run: its figures are the published and the measured ones, and nobody's file is written over."""

import copy
import types

import jax
import jax.numpy as jnp
import pytest

from configs import base
from mobilenets_jax.config import ConfigView
from mobilenets_jax.models import create_model
from mobilenets_jax.report import model_card
from mobilenets_jax.report.model_card import MARK, write_model_card
from mobilenets_jax.tasks import get_task
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.task import headline_metric

SUMMARY = {
    'model': 'mobilenet_v1',
    'step': 1200,
    'test_top1': 70.625,
    'test_top5': 89.5,
    'test_loss': None,
    'test_count': 50000,
    'seconds': 61.4,
    'starts': 2,
    'images_per_second': 512.3,
    'ema_sha256': 'abc',
}


@pytest.fixture(scope='module')
def config():
    config = base.get_config().to_dict()
    config['model']['name'] = 'mobilenet_v1'
    config['data'] |= {'name': 'image_folder', 'dir': 'flowers|more'}
    return config | {'num_epochs': 3.0, 'seed': 7}


def write(workdir, config, **summary):
    dataset = types.SimpleNamespace(
        num_train=1281167, num_eval=50000, num_classes=1000, class_names=tuple(f'n{label:08}' for label in range(1000))
    )
    write_model_card(
        workdir,
        SUMMARY | summary,
        copy.deepcopy(config),
        base.get_config().to_dict(),
        model=create_model('mobilenet_v1', num_classes=1000),
        dataset=dataset,
        measures=ClassificationTask,
    )
    return (workdir / 'README.md').read_text()


def rows(text):
    """The cells of all tables by their first one."""
    lines = [line.strip('| ').split(' | ') for line in text.splitlines() if line.startswith('| ')]
    return {cells[0]: cells[-1] for cells in lines}


def test_a_card_has_the_published_counts_and_what_was_measured(config, tmp_path, monkeypatch):
    monkeypatch.setattr(model_card, 'commit', lambda: '0123456789ab, with changes')
    workdir = tmp_path / 'flowers'
    workdir.mkdir()
    (workdir / 'curves.png').write_bytes(b'')
    text = write(workdir, config)
    found = rows(text)
    # 4.2 million parameters and 569 million multiply-adds in the paper's Table 4; these are exact.
    assert (found['parameters'], found['multiply-adds']) == ('4,231,976', '568,740,352')
    assert (found['top-1'], found['top-5'], found['loss']) == ('70.62 %', '89.50 %', '-')
    assert found['data'] == r'image_folder flowers\|more' and found['training images'] == '1,281,167'
    assert found['1000 classes'].endswith('n00000019 and 980 more')
    changed = {field: found[field] for field in ('model.name', 'data.name', 'data.dir', 'num_epochs', 'seed')}
    assert changed == {
        'model.name': "'mobilenet_v1'",
        'data.name': "'image_folder'",
        'data.dir': r"'flowers\|more'",
        'num_epochs': '3.0',
        'seed': '7',
    }
    assert not {'batch_size', 'model.convention', 'ema.decay'} & set(found)  # as by default
    assert found['time'] == '61 s in 2 start(s)' and found['speed'].startswith('512 images/s')
    assert 'commit 0123456789ab, with changes' in found['code'] and 'flax 0.12' in found['versions']
    assert 'After 1,200 steps, on 50,000 images, with averaged parameters:' in text
    assert '\npython -m mobilenets_jax eval --workdir=flowers --step=1200\n' in text
    assert '(curves.png)' in text and str(tmp_path) not in text


@pytest.mark.parametrize('task', ['segmentation', 'detection'])
def test_the_other_tasks_have_cards_too(task, tmp_path, capsys):
    fields = {'model.name': 'mobilenet_v2', 'model.width_multiplier': 0.25, 'image_size': (64, 96)}
    config = ConfigView(base.get_config(task).to_dict()).updated(fields)
    names = ('ant', 'bee')
    data = types.SimpleNamespace(num_train=8, num_eval=4, num_classes=2, class_names=names, name='none')
    definition = get_task(task)
    model = definition.create_model(config, data)
    summary = SUMMARY | {'model': 'mobilenet_v2'} | {f'test_{definition.measures.headline}': 41.5}
    defaults = base.get_config(task).to_dict()
    parts = {'model': model, 'dataset': data, 'measures': definition.measures}
    write_model_card(tmp_path, summary, config.to_dict(), defaults, **parts)
    assert capsys.readouterr().err == ''
    found = rows((tmp_path / 'README.md').read_text())
    shapes = jax.eval_shape(lambda key: model.init(key, jnp.zeros((1, 64, 96, 3)), train=False), jax.random.key(0))
    params = sum(leaf.size for leaf in jax.tree.leaves(shapes['params']))
    assert found['task'] == task and found['parameters'] == f'{params:,}' and found['2 classes'] == 'ant, bee'
    assert (
        found['images'].startswith('64 x 96 pixels') and found[headline_metric(definition.measures).label][:4] == '41.5'
    )


def test_it_is_written_anew_but_nobodys_file_is_written_over(config, tmp_path, capsys):
    assert '(curves.png)' not in write(tmp_path, config)
    text = write(tmp_path, config, step=1300, ema_sha256=None)
    assert 'After 1,300 steps' in text and 'raw parameters' in text and text.count(MARK) == 1
    (tmp_path / 'README.md').write_text('mine')
    assert write(tmp_path, config) == 'mine'
    said = capsys.readouterr().err
    assert said == 'README.md was not written: there is one that this project has not written\n'


def test_the_commit_is_that_of_a_checkout_of_this_project_alone(tmp_path, monkeypatch):
    package = tmp_path / 'site-packages' / 'mobilenets_jax'
    (package / 'report').mkdir(parents=True)
    (package / '__init__.py').write_text('')
    monkeypatch.setattr(model_card, '__file__', str(package / 'report' / 'model_card.py'))
    git = ['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c', 'user.email=a@b.c']
    assert model_card.commit() == ''
    model_card.subprocess.run([*git, 'init', '-q'], check=True)
    model_card.subprocess.run([*git, 'commit', '-q', '--allow-empty', '-m', 'another project'], check=True)
    assert model_card.commit() == ''
    model_card.subprocess.run([*git, 'add', '.'], check=True)
    model_card.subprocess.run([*git, 'commit', '-q', '-m', 'this one'], check=True)
    said = model_card.subprocess.run([*git, 'rev-parse', 'HEAD'], capture_output=True, text=True).stdout
    assert model_card.commit() == said[:12]
    (package / '__init__.py').write_text('changed = True')
    assert model_card.commit() == f'{said[:12]}, with changes'
