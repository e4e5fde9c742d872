"""Metrics on Weights & Biases: what a run hands over, also after a kill; and that a failure there ends no run."""

import json
import sys
import types

import pytest
from etils import epath

from configs import base
from mobilenets_jax.config import ConfigView
from mobilenets_jax.errors import UserError
from mobilenets_jax.experiment import Experiment
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.progress import Progress
from mobilenets_jax.training.wandb_scalars import WandbScalars

EVALUATION = {'top1': 12.5, 'top5': 50.0, 'loss': float('nan'), 'count': 8}


class FakeRun:
    """Keeps what it is given; fails once it is told to."""

    def __init__(self):
        self.logged, self.metrics, self.finished, self.broken = [], [], False, False

    def define_metric(self, name, step_metric=None):
        self.metrics.append((name, step_metric))

    def log(self, values):
        if self.broken:
            raise ConnectionError('no\nnetwork')
        self.logged.append(values)

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for the package, with what `init` was given and the runs that it made."""
    fake = types.SimpleNamespace(given=[], runs=[])

    def init(**given):
        fake.given.append(given)
        fake.runs.append(FakeRun())
        return fake.runs[-1]

    monkeypatch.setitem(sys.modules, 'wandb', types.SimpleNamespace(init=init))
    return fake


def progress(workdir, start_step=0, project='flowers'):
    return Progress(
        epath.Path(workdir),
        measures=ClassificationTask,
        total_steps=10,
        batch_size=8,
        start_step=start_step,
        wandb_project=project,
        config={'seed': 3, 'model': {'name': 'mobilenet_v1'}},
    )


def test_a_run_hands_over_its_rows(wandb, tmp_path):
    made = progress(tmp_path)
    made.first_step()
    made.train(2, {'loss': 3.0, 'accuracy': 10.0, 'learning_rate': 0.1}, timed_steps=2)
    made.evaluation(2, EVALUATION)
    made.close()
    (given,), (run,) = wandb.given, wandb.runs
    assert (given['project'], given['resume'], given['name']) == ('flowers', 'allow', tmp_path.name)
    assert given['config'] == {'seed': 3, 'model': {'name': 'mobilenet_v1'}} and given['dir'] == str(tmp_path)
    train, evaluation = run.logged
    assert (train['step'], train['train/loss'], train['train/learning_rate']) == (2, 3.0, 0.1)
    assert evaluation == {'step': 2, 'eval/top1': 12.5, 'eval/top5': 50.0, 'eval/count': 8}  # a loss without a value
    assert run.metrics == [('step', None), ('*', 'step')] and run.finished


def test_the_id_stays_after_a_kill_and_belongs_to_a_project(wandb, tmp_path):
    progress(tmp_path)  # killed: never closed
    progress(tmp_path, start_step=4)
    progress(tmp_path, project='other')
    (tmp_path / 'wandb.json').write_text('{"pro')
    progress(tmp_path, project='other')
    first, second, other, damaged = (given['id'] for given in wandb.given)
    assert first == second and len({first, other, damaged}) == 3
    assert json.loads((tmp_path / 'wandb.json').read_text()) == {'project': 'other', 'id': damaged}


def test_without_a_project_nothing_is_asked_for(wandb, tmp_path):
    progress(tmp_path, project='').close()
    assert wandb.given == [] and not (tmp_path / 'wandb.json').exists()


def test_a_failure_later_is_one_line_and_ends_nothing(wandb, tmp_path, capsys):
    made = progress(tmp_path)
    wandb.runs[0].broken = True
    for step in (2, 4):
        made.evaluation(step, EVALUATION)
    made.close()
    said = 'nothing more goes to Weights & Biases (no network); metrics.jsonl has all metrics\n'
    assert capsys.readouterr().err.count(said) == 1
    assert len((tmp_path / 'metrics.jsonl').read_text().splitlines()) == 2


def test_a_failure_at_the_start_and_a_missing_package_are_one_line(tmp_path, monkeypatch):
    def refuse(**_):
        raise RuntimeError('no API key\nconfigured')

    monkeypatch.setitem(sys.modules, 'wandb', types.SimpleNamespace(init=refuse))
    with pytest.raises(UserError, match="^log.wandb_project='a' cannot be written to: no API key configured$"):
        WandbScalars(epath.Path(tmp_path), 'a', {})
    monkeypatch.setitem(sys.modules, 'wandb', None)
    with pytest.raises(UserError, match=r"pip install 'mobilenets_jax\[wandb\]'"):
        WandbScalars(epath.Path(tmp_path), 'a', {})


def test_what_cannot_be_is_refused_before_anything_is_compiled(monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    fields = {'num_steps': 2, 'batch_size': 8, 'image_size': 32, 'log.wandb_project': 'flowers'}
    config = ConfigView(base.get_config().to_dict()).updated(fields)
    with pytest.raises(UserError, match='the Python package wandb is needed and not installed'):
        Experiment(config).train_step()
    with pytest.raises(UserError, match="^log.wandb_project='flowers' is not offered for a search.$"):
        Experiment(ConfigView({**config.to_dict(), 'search': {}})).train_step()


def test_the_package_itself_keeps_the_id_offline(tmp_path, monkeypatch):
    pytest.importorskip('wandb', reason='wandb is not installed: pip install .[wandb] brings it')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    for start_step in (0, 4):
        made = progress(tmp_path, start_step)
        made.evaluation(start_step + 2, EVALUATION)
        made.close()
    kept = json.loads((tmp_path / 'wandb.json').read_text())['id']
    folders = list((tmp_path / 'wandb').glob('offline-run-*'))
    assert folders and all(folder.name.endswith(f'-{kept}') for folder in folders)
