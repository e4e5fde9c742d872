"""A run whose config asks for 8 bit: its first state, its checkpoints, and what is made of them."""

import importlib
import pathlib
import sys

import jax
import numpy as np
import pytest

from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.config import ConfigView
from mobilenets_jax.config_use import check_used
from mobilenets_jax.errors import UserError
from mobilenets_jax.experiment import Experiment
from mobilenets_jax.fake_quantization import STATISTICS, float_statistics, ranges_of
from mobilenets_jax.training.state import tree_sha256
from mobilenets_jax.weights import load_pretrained
from mobilenets_jax.weights.init_from import StartingPoint

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
base, digits = importlib.import_module('configs.base'), importlib.import_module('configs.digits')

SMALL = {'model.name': 'mobilenet_v1', 'model.width_multiplier': 0.25, 'batch_size': 32, 'num_steps': 40}


def config(**fields):
    fields = {f'quantization.{name}': value for name, value in fields.items()}
    return ConfigView(digits.get_config().to_dict()).updated(SMALL | fields)


@pytest.fixture(scope='module')
def plain():
    """The first state of a run in float."""
    return Experiment(config()).initial_state()


@pytest.fixture(scope='module')
def started(plain):
    """A run in 8 bit that starts from the weights of one in float, and its first state."""
    variables = {'params': jax.tree.map(lambda leaf: 1.25 * leaf, plain.params), 'batch_stats': plain.batch_stats}
    start = StartingPoint(variables, {}, False, None)
    experiment = Experiment(config(enabled=True, delay_percent=25.0, freeze_percent=75.0), start)
    return experiment, experiment.initial_state(), variables


def test_run_starts_from_the_weights_and_the_ranges_of_its_first_batch(started):
    experiment, state, variables = started
    assert tree_sha256(state.params) == tree_sha256(variables['params'])
    assert tree_sha256(float_statistics(state.batch_stats)) == tree_sha256(variables['batch_stats'])
    images = experiment._first_images()
    logits, _ = experiment.model.apply(variables, images, train=False)
    found = ranges_of(state.batch_stats)
    np.testing.assert_allclose(found['logits/output'], (logits.min(), logits.max()), rtol=1e-3, atol=1e-6)
    assert len(found) == 27 + 2  # convolutions; what is pooled, and the logits
    assert tree_sha256(state.ema_batch_stats) == tree_sha256(state.batch_stats)
    shapes = experiment.abstract_state()
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shapes) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    expected = (
        '8 bit: kernels and 29 ranges of activations, rounded from batch 11 on, statistics frozen from batch 31 on'
    )
    assert experiment.quantized.describe(shapes.batch_stats) == expected


def test_checkpoint_says_that_it_is_of_8_bit(started, plain, tmp_path, capsys):
    experiment, state, variables = started
    facts = {'config': experiment._config.to_dict()}
    with CheckpointManager(tmp_path / 'checkpoints', identity=experiment.identity) as checkpoints:
        checkpoints.save(1, jax.device_get(state), meta=facts)
    pretrained = load_pretrained(str(tmp_path))
    assert (
        f'weights={str(tmp_path)!r}: it was trained for 8 bit, to which only `eval.py --workdir` and '
        '`export --quantize=int8` round it.'
    ) in capsys.readouterr().err
    assert tree_sha256(pretrained.variables) == tree_sha256(variables)
    learned = ranges_of(state.batch_stats)
    assert pretrained.card.ranges == {name: tuple(map(float, ends)) for name, ends in learned.items()}
    assert STATISTICS not in pretrained.variables['batch_stats']
    in_float = Experiment(config())
    with (
        CheckpointManager(tmp_path / 'checkpoints', identity=in_float.identity, read_only=True) as checkpoints,
        pytest.raises(UserError, match=r'quantization=int8.*the run asks for .*quantization=unset'),
    ):
        checkpoints.restore(in_float.abstract_variables(), partial=True)


def test_wrong_values_are_named():
    with pytest.raises(UserError, match=r'^quantization.range_momentum=1.5 must be in \[0, 1\)\.$'):
        Experiment(config(enabled=True, range_momentum=1.5))
    view = config(delay_steps=3)
    experiment = Experiment(view)
    experiment.abstract_state(), experiment.train_step(), experiment.options, dict(view.checkpoint)
    with pytest.raises(
        UserError, match=r'^quantization.delay_steps=3 has no effect with quantization.enabled=False; it needs'
    ):
        check_used(view, {'quantization.delay_steps': 3}, base.get_config().to_dict())
