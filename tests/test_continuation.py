"""What may change when a run goes on, by field: what is named, what is refused, what is read no more."""

import importlib
import json
import pathlib
import sys

import jax
import pytest

from mobilenets_jax.checkpoints import Description
from mobilenets_jax.checkpoints.arrays import describe
from mobilenets_jax.config import ConfigView
from mobilenets_jax.continuation import STATE_FIELDS, Continuation
from mobilenets_jax.errors import UserError
from mobilenets_jax.experiment import Experiment
from mobilenets_jax.identity import NETWORK_FIELDS

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
base, digits = importlib.import_module('configs.base'), importlib.import_module('configs.digits')

SMALL = {'model.name': 'mobilenet_v1', 'model.width_multiplier': 0.25, 'batch_size': 32}
META = {'position': 1280, 'timing': {}}


def config(**fields):
    fields = {name.replace('__', '.'): value for name, value in fields.items()}
    return ConfigView(digits.get_config().to_dict()).updated(SMALL | fields)


def state(view):
    return Experiment(view).abstract_state()


def continuation(saved, stored, **meta):
    meta = META | {'config': saved.to_dict()} | meta
    return Continuation(Description(step=40, meta=meta, arrays=describe(stored), identity={}), base.get_config())


@pytest.fixture(scope='module')
def stored():
    """The state of a short run on the digits."""
    return state(config())


@pytest.fixture
def going_on(stored):
    return continuation(config(), stored)


LEAVES = config().leaves()

# For every field that a state's arrays could depend on, another value than that of `config`.
OTHER_VALUES = {
    'seed': 3, 'batch_size': 16, 'image_size': 24, 'label_smoothing': 0.2, 'num_steps': 20,
    'optimizer.name': 'adamw', 'optimizer.momentum': 0.0, 'optimizer.nesterov': True, 'optimizer.decay': 0.8,
    'optimizer.epsilon': 0.1, 'optimizer.clip_norm': 1.0, 'optimizer.rate_factors': (('^logits', 0.5),),
    'optimizer.layer_decay': 0.9,
    'optimizer.accumulation_steps': 2, 'schedule.name': 'constant', 'schedule.learning_rate': 0.1,
    'schedule.warmup_percent': 20.0, 'schedule.warmup_from': 0.1, 'weight_decay.decoupled': True,
    'weight_decay.skip': (), 'ema.decay': 0.0, 'ema.ramp': False, 'ema.batch_stats': False,
    'model.dropout_rate': 0.5, 'model.bn_momentum': 0.8, 'model.sync_bn': True, 'model.dtype': 'bfloat16',
    'quantization.enabled': True,
}  # fmt: skip
MISFITS = {
    'optimizer.name',
    'optimizer.clip_norm',
    'weight_decay.decoupled',
    'ema.decay',
    'ema.batch_stats',
    'quantization.enabled',
}


@pytest.mark.parametrize('path', OTHER_VALUES)
def test_field_that_changes_the_arrays_is_refused_by_its_name_and_any_other_is_not(path, going_on, stored):
    view = config().updated({path: OTHER_VALUES[path]})
    target = state(view)
    now, before = (repr(json.loads(json.dumps(leaves[f'config.{path}']))) for leaves in (view.leaves(), LEAVES))
    line = f'config.{path}: {now} instead of {before} in checkpoint 40'
    assert going_on.describe_changes(view) == [line]
    assert (describe(target) != describe(stored)) == (path in MISFITS)
    if path not in MISFITS:
        going_on.check(view, target, 40)
        return
    with pytest.raises(UserError) as error:
        going_on.check(view, target, 40)
    assert str(error.value) == (
        f'{line}, whose state does not fit. Set it back, or give the run a workdir of its own, which init_from starts '
        'from these weights.'
    )


def test_decay_that_is_switched_on_is_refused_only_where_it_has_a_state():
    """A decay beside the gradient counts its steps, one in the loss has nothing to keep."""
    for decoupled, refused in ((True, True), (False, False)):
        before = config(weight_decay__rate=0.0, weight_decay__decoupled=decoupled)
        after = config(weight_decay__rate=1e-4, weight_decay__decoupled=decoupled)
        going_on = continuation(before, state(before))
        if refused:
            with pytest.raises(UserError, match=r'^config\.weight_decay\.rate: 0\.0001 instead of 0\.0 in checkpoint'):
                going_on.check(after, state(after), 40)
        else:
            going_on.check(after, state(after), 40)


def test_double_precision_is_refused_by_its_name(going_on):
    after = config(model__dtype='float64')
    with jax.enable_x64(True):
        target = state(after)
    with pytest.raises(
        UserError, match=r"^config\.model\.dtype: 'float64' instead of 'float32' in checkpoint 40, whose"
    ):
        going_on.check(after, target, 40)


def test_every_field_that_is_refused_is_tried_here():
    assert set(STATE_FIELDS) == MISFITS | {'weight_decay.rate', 'model.dtype'}


def test_all_fields_that_do_not_fit_stand_in_one_line(going_on):
    view = config(optimizer__name='sgd', ema__decay=0.0, seed=5)
    with pytest.raises(UserError) as error:
        going_on.check(view, state(view), 40)
    assert str(error.value).startswith(
        "config.ema.decay: 0.0 instead of 0.99 in checkpoint 40; config.optimizer.name: 'sgd' instead of 'rmsprop' in "
        'checkpoint 40, whose state'
    )


def test_arrays_of_another_version_are_left_to_the_checkpoint_manager(going_on, stored):
    going_on.check(config(image_size=24), stored.replace(ema_params=None), 40)


def test_run_that_is_shorter_than_its_checkpoint_is_refused(going_on, stored):
    with pytest.raises(UserError, match=r'^num_steps=39 is behind the checkpoint, which has 40 steps\.$'):
        going_on.check(config(num_steps=39), stored, 39)


def test_same_config_prints_nothing(going_on, stored):
    assert going_on.describe_changes(config()) == []
    going_on.check(config(), stored, 40)


def test_field_without_effect_in_both_runs_is_not_named(going_on):
    assert going_on.describe_changes(config(optimizer__beta1=0.5, schedule__decay_rate=0.5)) == []
    both = config(schedule__name='exponential', schedule__decay_epochs=2.0, schedule__decay_rate=0.5)
    assert [line.partition(':')[0] for line in going_on.describe_changes(both)] == [
        'config.schedule.decay_epochs',
        'config.schedule.decay_rate',
        'config.schedule.name',
    ]


def test_many_changes_are_eight_lines_and_one_with_names(going_on):
    """How often a run reports and saves comes last: it changes nothing of the result."""
    changes = {path: value for path, value in OTHER_VALUES.items() if path != 'optimizer.name'}
    lines = going_on.describe_changes(config().updated(changes | {'checkpoint.keep_last': 9, 'log.every_steps': 1}))
    named = [line.partition(':')[0].removeprefix('config.') for line in lines[:8]]
    count, _, others = lines[8].partition(' more field(s) of the config differ from checkpoint 40: ')
    assert len(lines) == 9 and int(count) == len(changes) + 2 - 8
    assert {*named, *others.split(', ')} == {*changes, 'checkpoint.keep_last', 'log.every_steps'}
    assert others.split(', ')[-2:] == ['checkpoint.keep_last', 'log.every_steps']


def test_long_value_is_cut_short(going_on):
    (line,) = going_on.describe_changes(config(weight_decay__skip=('x' * 1000,)))
    assert len(line) < 200 and '... instead of' in line


def test_older_and_newer_versions_are_compared_by_the_defaults(stored):
    saved = config(seed=1).to_dict()
    del saved['ema']['ramp'], saved['data']['shift_pixels'], saved['hang_timeout_seconds']
    saved['model']['depth'], saved['speed'] = 3, 'high'
    going_on = continuation(config(), stored, config=saved)
    assert going_on.describe_changes(config(ema__ramp=False, hang_timeout_seconds=60.0)) == [
        'checkpoint 40: 2 field(s) of its config are left out, as there are none today: model.depth, speed',
        'config.ema.ramp: False instead of True in checkpoint 40',
        'config.seed: 0 instead of 1 in checkpoint 40',
        'config.hang_timeout_seconds: 60.0 instead of 1800.0 in checkpoint 40',
    ]


@pytest.mark.parametrize('part', ['position', 'timing'])
def test_checkpoint_that_no_run_saved_is_refused(part, stored):
    with pytest.raises(UserError, match=f"^checkpoint 40 was saved without its '{part}': no run can go on from it"):
        continuation(config(), stored, **{part: None})


def test_network_of_the_weights_comes_from_the_checkpoint(stored):
    """A run that started from weights needs them no more; a field that is given now counts more."""
    weights = {'init_from': 'gone.h5', 'new_head': True}
    network = {'model.name': 'mobilenet_v1', 'model.num_removed_strides': 2, 'data.normalization': 'unit'}
    going_on = continuation(config().updated(weights | network), stored)
    command = config(model__name='mobilenet_v3_small').updated(weights)
    fields = going_on.network_of_start(command, {'model.width_multiplier': 0.5})
    assert set(fields) == set(NETWORK_FIELDS) - {'model.width_multiplier'}
    assert {path: fields[path] for path in network} == network
    moved = command.updated(fields | {'init_from': 'moved.h5'})
    assert going_on.describe_changes(moved) == [
        "config.init_from: 'moved.h5' instead of 'gone.h5' in checkpoint 40; a run that goes on does not read it"
    ]
    assert going_on.network_of_start(config(), {}) == {}  # without init_from the config has all of the network


def test_weights_for_a_run_that_started_without_are_refused(going_on):
    with pytest.raises(UserError, match=r"^init_from='w\.h5' has no effect on a run that goes on from checkpoint 40"):
        going_on.network_of_start(config(init_from='w.h5'), {})
