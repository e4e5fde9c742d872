"""`average`: the mean of a run's checkpoints is that of their arrays, and a workdir like any other."""

import json

import jax
import numpy as np
import pytest
from test_trained import CONFIG, NAMES, SIZE, draw_variables, save

from mobilenets_jax.__main__ import main
from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.weights import load_pretrained
from mobilenets_jax.weights.averaging import Source, average
from mobilenets_jax.weights.init_from import starting_point

# Two checkpoints more than a run keeps by default; 20 and 40 are the best.
METRICS = ((10, 70.0), (20, 90.0), (30, None), (40, 80.0))


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    return save(tmp_path_factory.mktemp('run'), metrics=METRICS, keep_last=4)


def assert_mean(variables, seeds):
    """In float64, as NumPy has it, rounded once."""
    drawn = [draw_variables(seed) for seed in seeds]
    for leaf, *others in zip(jax.tree.leaves(variables), *map(jax.tree.leaves, drawn), strict=True):
        assert leaf.dtype == np.float32
        np.testing.assert_array_equal(leaf, np.mean([other.astype(np.float64) for other in others], 0).astype('f4'))


@pytest.mark.parametrize(
    ('sources', 'flags', 'seeds', 'step'),
    [
        (('',), (), (11, 21, 31, 41), 40),
        (('',), ('--last=3', '--params=raw'), (20, 30, 40), 40),
        (('checkpoints',), ('--best=2',), (21, 41), 40),
        (('checkpoints/10', 'checkpoints/30'), (), (11, 31), 30),
        (('', 'checkpoints/20'), ('--params=raw',), (40, 20), 40),
    ],
)
def test_the_mean_is_that_of_the_checkpoints_asked_for(sources, flags, seeds, step, workdir, tmp_path, capsys):
    out = tmp_path / 'mean'
    assert main(['average', *(str(workdir / source) for source in sources), f'--out={out}', *flags]) == 0
    assert capsys.readouterr().out.endswith(f'{out}\npython -m mobilenets_jax eval --workdir={out}\n')
    for params in ('ema', 'raw'):
        pretrained = load_pretrained(str(out), params=params)
        assert_mean(pretrained.variables, seeds)
    assert pretrained.class_names == list(NAMES) and pretrained.card.preprocessing.image_size == SIZE
    with CheckpointManager(out / 'checkpoints', identity=None, read_only=True) as checkpoints:
        found = checkpoints.describe()
    assert found.step == step and len(found.meta['average_of']) == len(seeds)
    assert found.meta['config'] == CONFIG == json.loads((out / 'config.json').read_text())


def test_a_run_starts_from_a_mean(workdir, tmp_path):
    average([Source(workdir / 'checkpoints', step) for step in (10, 20)], tmp_path, 'raw')
    assert_mean(dict(starting_point(str(tmp_path), {}, head='logits', new_head=False).variables), (10, 20))


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        (
            ('--last=5',),
            '{run} holds 4 checkpoints (10, 20, 30, 40), 5 are to be averaged: a run keeps as many as its '
            'checkpoint.keep_last says, and the best one.',
        ),
        (
            ('--best=4',),
            '{run} holds 3 checkpoints with a metric (20, 40, 10), 4 are to be averaged: a run keeps as many as its '
            'checkpoint.keep_last says, and the best one.',
        ),
        (('--last=1',), '--last=1 must be 2 or more.'),
        (('{run}/checkpoints/10', '--last=2'), '--last=2 needs one workdir.'),
        (('{run}/checkpoints/40',), "CHECKPOINT='{run}/checkpoints/40' is named twice."),
        (('{run}/none',), "CHECKPOINT='{run}/none' holds no checkpoint."),
    ],
)
def test_what_cannot_be_averaged_is_one_line(flags, said, workdir, tmp_path, capsys):
    flags = [flag.format(run=workdir) for flag in flags]
    assert main(['average', str(workdir), *flags, f'--out={tmp_path}/mean']) == 2
    assert capsys.readouterr().err == f'error: {said.format(run=workdir)}\n'
    assert list(tmp_path.iterdir()) == []


def test_other_networks_and_classes_are_refused(workdir, tmp_path, capsys):
    other = save(tmp_path / 'padding', CONFIG | {'model': CONFIG['model'] | {'padding': 'symmetric'}})
    classes = save(tmp_path / 'classes', names=(*NAMES[:9], 'ten'))
    for run, said in ((other, 'mobilenet_v1 (padding=symmetric); the run asks'), (classes, "class 9 is '9' in")):
        assert main(['average', str(workdir), str(run), f'--out={tmp_path}/mean']) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / 'mean').exists()


def test_a_damaged_checkpoint_is_named(tmp_path, capsys):
    run = save(tmp_path / 'run')
    (run / 'checkpoints' / '5' / 'meta' / 'metadata').write_text('{}')
    assert main(['average', str(run), f'--out={tmp_path}/mean']) == 2
    assert '5 is damaged (meta/metadata' in capsys.readouterr().err
    assert not (tmp_path / 'mean').exists()


def test_nothing_is_written_over(workdir, tmp_path, capsys):
    run = save(tmp_path / 'run')
    assert main(['average', str(workdir), f'--out={run}']) == 2
    assert capsys.readouterr().err == f"error: --out='{run}' holds checkpoints already.\n"
