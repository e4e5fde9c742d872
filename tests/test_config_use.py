"""A field that is set has an effect with the choices of the others, or ends the run."""

import pytest

from mobilenets_jax.config import ConfigView
from mobilenets_jax.config_use import check_used, check_used_in_evaluation, fields_in_use
from mobilenets_jax.errors import UserError

DEFAULTS = {
    'init_from': '',
    'new_head': False,
    'model': {'name': 'mobilenet_v1', 'dropout_rate': None, 'dtype': 'float32'},
    'data': {
        'name': 'digits',
        'dir': '',
        'train_crop': 'inception',
        'min_area_fraction': None,
        'eval_crop': 'central_fraction',
        'crop_fraction': 0.875,
        'interpolation': 'bilinear',
        'auto_augment': 'none',
        'randaugment_layers': 2,
        'random_erasing': 0.0,
        'random_erasing_fill': 'zero',
        'random_flip': True,
        'shift_pixels': 4,
    },
    'optimizer': {'name': 'rmsprop', 'momentum': 0.9, 'epsilon': 0.001, 'beta1': 0.9, 'beta2': 0.999},
    'schedule': {'name': 'cosine', 'decay_rate': 0.99, 'decay_epochs': None, 'warmup_from': 0.0, 'warmup_percent': 0.0},
    'weight_decay': {'rate': 0.0, 'skip': ('/bn/',)},
    'ema': {'decay': 0.9, 'ramp': True},
}
ALL_SPELLINGS = {
    f'{name}_{unit}': None for name in ('warmup', 'decay') for unit in ('steps', 'epochs', 'examples', 'percent')
}
DEFAULTS['schedule'] = ALL_SPELLINGS | DEFAULTS['schedule']
FOLDER = {'data.name': 'image_folder', 'data.dir': '/images'}


def read(config):
    """Reads all leaves, as sections that are copied do."""
    for value in config.values():
        if isinstance(value, ConfigView):
            read(value)


def view(fields):
    config = ConfigView(DEFAULTS).updated(fields)
    read(config)
    return config


def check(file=None, command=None):
    check_used(view({**(file or {}), **(command or {})}), command or {}, DEFAULTS)


@pytest.mark.parametrize(
    ('fields', 'line'),
    [
        (
            {'data.train_crop': 'resize'},
            "data.train_crop='resize' has no effect with data.name='digits'; "
            "it needs data.name='image_folder', 'records' or 'tfds:NAME'.",
        ),
        (
            {'optimizer.beta1': 0.5},
            "optimizer.beta1=0.5 has no effect with optimizer.name='rmsprop'; "
            "it needs optimizer.name='adamw' or 'lamb'.",
        ),
        (
            {'optimizer.name': 'sgd', 'optimizer.epsilon': 1e-8},
            "optimizer.epsilon=1e-08 has no effect with optimizer.name='sgd'; "
            "it needs optimizer.name='adamw', 'lamb' or 'rmsprop'.",
        ),
        (
            {'schedule.decay_rate': 0.9},
            "schedule.decay_rate=0.9 has no effect with schedule.name='cosine'; it needs schedule.name='exponential'.",
        ),
        (
            {'schedule.decay_epochs': 2.0},
            "schedule.decay_epochs=2.0 has no effect with schedule.name='cosine'; "
            "it needs schedule.name='exponential'.",
        ),
        (
            {'schedule.warmup_from': 0.1},
            'schedule.warmup_from=0.1 has no effect with schedule.warmup_steps=None; '
            'it needs schedule.warmup_steps above 0.',
        ),
        (
            FOLDER | {'data.shift_pixels': 2},
            "data.shift_pixels=2 has no effect with data.name='image_folder'; it needs data.name='memory_folder'.",
        ),
        (
            {'data.name': 'tfds:x', 'data.randaugment_layers': 3},
            "data.randaugment_layers=3 has no effect with data.auto_augment='none'; "
            "it needs data.auto_augment='randaugment'.",
        ),
        (
            FOLDER | {'data.train_crop': 'resize', 'data.min_area_fraction': 0.5},
            "data.min_area_fraction=0.5 has no effect with data.train_crop='resize'; "
            "it needs data.train_crop='inception' or 'random_resized'.",
        ),
        (
            FOLDER | {'data.interpolation': 'bicubic'},
            "data.interpolation='bicubic' has no effect with data.eval_crop='central_fraction'; "
            "it needs data.eval_crop='resize_crop' or 'rounded_resize_crop'.",
        ),
        (
            {'data.random_erasing_fill': 'noise'},
            "data.random_erasing_fill='noise' has no effect with data.random_erasing=0.0; "
            'it needs data.random_erasing above 0.',
        ),
        ({'new_head': True}, "new_head=True has no effect with init_from=''; it needs an init_from."),
        (
            {'ema.decay': 0.0, 'ema.ramp': False},
            'ema.ramp=False has no effect with ema.decay=0.0; it needs ema.decay above 0.',
        ),
        (
            {'weight_decay.skip': ()},
            'weight_decay.skip=() has no effect with weight_decay.rate=0.0; it needs weight_decay.rate above 0.',
        ),
        (
            {'optimizer.beta1': 0.5, 'optimizer.beta2': 0.5},
            "optimizer.beta1=0.5 has no effect with optimizer.name='rmsprop'; "
            "it needs optimizer.name='adamw' or 'lamb'. "
            'Likewise: optimizer.beta2.',
        ),
    ],
)
@pytest.mark.parametrize('by', ['command', 'file'])
def test_field_without_effect_is_named_with_what_it_needs(fields, line, by):
    with pytest.raises(UserError) as error:
        check(**{by: fields})
    assert str(error.value) == line


@pytest.mark.parametrize(
    'fields',
    [
        {},
        FOLDER | {'data.train_crop': 'resize', 'data.random_flip': False},
        {'data.name': 'records', 'data.dir': '/x', 'data.auto_augment': 'randaugment', 'data.randaugment_layers': 3},
        {'data.name': 'memory_folder', 'data.shift_pixels': 2, 'data.dir': '/x'},
        {'optimizer.name': 'adamw', 'optimizer.beta1': 0.5, 'optimizer.epsilon': 1e-8},
        {'schedule.name': 'exponential', 'schedule.decay_rate': 0.9, 'schedule.decay_epochs': 1.0},
        {'schedule.warmup_percent': 5.0, 'schedule.warmup_from': 0.1},
        {'init_from': 'runs/x', 'new_head': True},
        {'schedule.decay_epochs': None},  # unset is not set
        {'init_from': '', 'new_head': False},  # off, as it is by default
    ],
)
@pytest.mark.parametrize('by', ['command', 'file'])
def test_field_with_an_effect_passes_in_silence(fields, by, capsys):
    check(**{by: fields})
    assert capsys.readouterr().err == ''


def test_default_that_is_spelled_out_counts_on_the_command_line_alone():
    check(file={'data.train_crop': 'inception'})
    with pytest.raises(UserError, match="^data.train_crop='inception' has no effect"):
        check(command={'data.train_crop': 'inception'})


def test_what_the_file_set_for_another_choice_is_left_out_in_one_line(capsys):
    check(file={'optimizer.epsilon': 0.002, 'optimizer.momentum': 0.8}, command={'optimizer.name': 'sgd'})
    assert capsys.readouterr().err == (
        "1 field(s) of the config file are left out: optimizer.epsilon=0.002 has no effect with optimizer.name='sgd'; "
        "it needs optimizer.name='adamw', 'lamb' or 'rmsprop'\n"
    )


def test_leaf_that_nothing_reads_is_named():
    config = view({})
    with pytest.raises(UserError, match=r'^config.model.nme: nothing reads this'):
        check_used(ConfigView(config.to_dict() | {'model': {'nme': 1}}, read=config._read), {}, DEFAULTS)


def test_fields_without_effect_are_not_read():
    config = ConfigView(DEFAULTS)
    assert fields_in_use(config, 'optimizer') == {'name': 'rmsprop', 'momentum': 0.9, 'epsilon': 0.001}
    assert set(fields_in_use(config, 'data')) == {'name', 'random_erasing'}
    assert {'config.optimizer.beta1', 'config.data.train_crop'} <= set(config.unread())


@pytest.mark.parametrize(
    ('given', 'line'),
    [
        ({'data.train_crop': 'resize'}, "data.train_crop='resize' has no effect with data.name='digits'; it needs "),
        ({'data.train_split': 'a'}, "data.train_split='a' has no effect with data.name='digits'; it needs data.name="),
        (FOLDER | {'data.train_crop': 'resize'}, "data.train_crop='resize' has no effect in evaluation, only in "),
        ({'model.dropout_rate': 0.1}, 'model.dropout_rate=0.1 has no effect in evaluation, only in training.'),
        ({'model.drop_path_rate': 0.1}, 'model.drop_path_rate=0.1 has no effect in evaluation, only in training.'),
        ({'data.random_erasing': 0.5}, 'data.random_erasing=0.5 has no effect in evaluation, only in training.'),
        (FOLDER | {'data.interpolation': 'bicubic'}, "data.interpolation='bicubic' has no effect with data.eval_crop="),
    ],
)
def test_evaluation_refuses_what_it_does_not_use(given, line):
    with pytest.raises(UserError) as error:
        check_used_in_evaluation(view(given), given)
    assert str(error.value).startswith(line)


def test_evaluation_takes_what_a_run_saved_and_what_it_uses():
    saved = view({'data.train_crop': 'resize', 'model.dropout_rate': 0.1, 'optimizer.beta1': 0.5, **FOLDER})
    check_used_in_evaluation(saved, {})
    given = {'data.eval_crop': 'resize_crop', 'data.crop_fraction': 1.0, 'model.dtype': 'float32', 'optimizer.beta1': 1}
    given |= {'data.train_split': 'training', 'data.eval_split': 'test'}  # the first has the classes of the labels
    check_used_in_evaluation(saved.updated({'data.eval_crop': 'resize_crop'}), given)


@pytest.mark.parametrize('name', ['alpha', 'match_threshold', 'min_negatives', 'class_bias', 'bn_momentum'])
def test_evaluation_of_a_detector_refuses_what_trains_it(name):
    given = {f'detection.{name}': 0.5}
    with pytest.raises(UserError, match=rf'^detection\.{name}=0\.5 has no effect in evaluation, only in training\.'):
        check_used_in_evaluation(view({}), given)
    check_used_in_evaluation(view({}), {'detection.iou_threshold': 0.5, 'detection.classification': 'softmax'})
