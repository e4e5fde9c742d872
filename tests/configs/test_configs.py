"""Every shipped config builds, says where it comes from, and sets nothing that no run reads."""

import ast
import importlib.util
import pathlib
import sys

import jax
import pytest

from mobilenets_jax import experiment
from mobilenets_jax.config import ConfigView
from mobilenets_jax.data.dataset import Dataset
from mobilenets_jax.data.options import Options

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
CONFIGS = [
    ROOT / 'configs' / 'cifar10.py',
    ROOT / 'configs' / 'digits.py',
    *sorted((ROOT / 'configs').glob('imagenet/mobilenet*.py')),
]
HEADER = ('Paper:', 'Command:', 'Hardware:', 'Expected:', 'Status:')
STATUSES = ('reproduced here', 'ported', 'not yet tried')


class ImageNetStandIn(Dataset):
    """The sizes of ImageNet, no images."""

    def __init__(self, name, *, image_size, batch_size, seed, normalization, **options):
        names = tuple(map(str, range(1000)))
        super().__init__(name, names, 1_281_167, 50_000, Options(image_size, batch_size, seed, normalization))

    def _train_rows(self, layout, start):
        raise NotImplementedError

    def _eval_rows(self, layout):
        raise NotImplementedError


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


@pytest.fixture(params=CONFIGS, ids=lambda path: path.relative_to(ROOT).as_posix())
def path(request):
    return request.param


def build(path, monkeypatch) -> tuple[experiment.Experiment, ConfigView]:
    if path.stem != 'digits':
        monkeypatch.setattr(experiment, 'create_dataset', ImageNetStandIn)
    view = ConfigView(load(path).to_dict())
    return experiment.Experiment(view), view


def test_builds_and_every_leaf_is_read(path, monkeypatch):
    built, view = build(path, monkeypatch)
    state = built.abstract_state()
    built.train_step()
    built.evaluator()
    assert built.options.total_steps > 0
    assert {leaf.dtype.name for leaf in jax.tree.leaves((state.params, state.batch_stats))} == {'float32'}
    for name in ('keep_last', 'keep_best'):  # train.py hands these to the checkpoint manager
        assert view.checkpoint[name]
    assert view.unread() == []


def test_header_says_where_it_comes_from(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    fields = {line.split()[0]: line for line in text.splitlines() if line.startswith(HEADER)}
    assert set(fields) == set(HEADER)
    assert fields['Command:'].split()[3] == f'--config={path.relative_to(ROOT).as_posix()}'
    assert fields['Status:'].removeprefix('Status: ').rstrip('.') in STATUSES


@pytest.mark.parametrize(
    ('name', 'steps', 'rates'),
    [
        # 312.78 steps an epoch, so 781 (2.5 epochs) and 938 (3 epochs) between decays and a warm-up of 1563.
        ('mobilenet_v1', 156_392, {781: 0.256 * 0.94**2 * 781 / 1563, 2346: 0.256 * 0.94**3}),
        ('mobilenet_v2', 156_392, {2346: 0.256 * 0.96**3}),
        ('mobilenet_v3_large', 312_784, {938 * 10: 0.1 * 0.99**10}),
        ('mobilenet_v3_small', 312_784, {0: 0.001, 938 * 10: 0.1 * 0.99**10}),
    ],
)
def test_imagenet_schedules_by_hand(name, steps, rates, monkeypatch):
    built, _ = build(ROOT / 'configs' / 'imagenet' / f'{name}.py', monkeypatch)
    assert built.options.total_steps == steps
    assert built.batch_size == 32 * 128
    for step, rate in rates.items():
        assert float(built.schedule(step)) == pytest.approx(rate, rel=1e-4)
