"""A checkpoint is of one network, one range of its input and one list of classes."""

import unicodedata

import pytest

from mobilenets_jax.config import ConfigView
from mobilenets_jax.errors import UserError
from mobilenets_jax.identity import NETWORK_FIELDS, Identity, check_classes, field_name, network_fields

CONFIG = {
    'model': {'name': 'mobilenet_v2', 'width_multiplier': 0.5, 'convention': 'torchvision', 'bn_epsilon': None},
    'data': {'name': 'image_folder', 'normalization': 'imagenet'},
}
FIELDS = {
    'model': 'mobilenet_v2',
    'table': '',
    'width_multiplier': 0.5,
    'convention': 'torchvision',
    'tail': 'full',
    'num_removed_strides': 0,
    'output_stride': 32,
    'bn_epsilon': 1e-5,
    'divisor': 8,
    'padding': 'symmetric',
    'activation': None,
    'normalization': 'imagenet',
}


def identity(names=('cat', 'dog'), **fields):
    return Identity(fields=FIELDS | {'num_classes': 2} | fields, class_names=names, data="data.dir='pets'")


def check(stored, own, exact=True):
    check_classes('checkpoint 7', stored, own, "data.dir='pets'", exact=exact)


def test_network_fields_of_a_config_that_names_few_are_those_of_the_convention():
    assert network_fields(CONFIG) == network_fields(ConfigView(CONFIG)) == FIELDS
    assert set(FIELDS) == set(map(field_name, NETWORK_FIELDS))
    assert network_fields(CONFIG, {'model': 'mobilenet_v1', 'bn_epsilon': 0.5, 'num_classes': 3}) == FIELDS | {
        'model': 'mobilenet_v1',
        'bn_epsilon': 0.5,
    }


def test_same_network_and_classes_pass_in_silence(capsys):
    identity().check('checkpoint 7', identity().to_json(), {}, exact=True)
    assert capsys.readouterr() == ('', '')


def test_checkpoint_without_a_task_is_of_a_classifier():
    older = {name: value for name, value in identity().to_json().items() if name != 'task'}
    identity().check('checkpoint 7', older, {}, exact=True)
    other = Identity(fields=FIELDS | {'num_classes': 2}, class_names=('cat', 'dog'), task='segmentation')
    for stored in (older, identity().to_json()):
        with pytest.raises(UserError) as error:
            other.check('checkpoint 7', stored, {}, exact=True)
        assert str(error.value) == (
            "checkpoint 7 is of the task 'classification'; the run asks for 'segmentation'. "
            'Give the run a directory of its own.'
        )
    other.check('checkpoint 7', other.to_json(), {}, exact=True)


def test_constant_that_is_spelled_out_is_that_of_the_convention():
    spelled_out = {
        **CONFIG,
        'model': {**CONFIG['model'], 'bn_epsilon': 1e-5, 'padding': 'symmetric', 'output_stride': 32},
    }
    assert network_fields(spelled_out) == network_fields(CONFIG)


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        *(('num_removed_strides', 2), ('output_stride', 16), ('bn_epsilon', 0.001), ('padding', 'same')),
        *(('activation', 'relu'), ('tail', 'detection'), ('normalization', 'unit')),
    ],
)
def test_older_checkpoint_has_the_fields_of_its_config(field, value, capsys):
    """Its identity names four fields; the config that was saved with it has the others of the network."""
    older = {name: FIELDS[name] for name in ('model', 'width_multiplier', 'convention')} | {'num_classes': 2}
    section = 'data' if field == 'normalization' else 'model'
    meta = {'config': {**CONFIG, section: {**CONFIG[section], field: value}}}
    identity(**{field: value}).check('checkpoint 7', older, meta, exact=True)
    assert capsys.readouterr().err == (
        "checkpoint 7 names no classes: they cannot be compared with those of data.dir='pets'\n"
    )
    with pytest.raises(UserError) as error:
        identity().check('checkpoint 7', older, meta, exact=True)
    assert str(error.value) == (
        f'checkpoint 7 holds mobilenet_v2 ({field}={value}); the run asks for mobilenet_v2 ({field}={FIELDS[field]}). '
        'Give the run a directory of its own.'
    )


@pytest.mark.parametrize(
    ('stored', 'own', 'line'),
    [
        (
            ['cat', 'dog'],
            ['ant', 'cat'],
            "class 0 is 'ant' in data.dir='pets', 'cat' in the checkpoint; 2 of 2 differ.",
        ),
        (['a', 'b', 'c'], ['a', 'c', 'b'], "class 1 is 'c' in data.dir='pets', 'b' in the checkpoint; 2 of 3 differ."),
        (
            ['a', 'b'],
            ['a', 'b', 'c'],
            "class 2 is 'c' in data.dir='pets', missing in the checkpoint; "
            '1 of 3 differ (3 classes, 2 in the checkpoint).',
        ),
        (
            ['a', 'b', 'c'],
            ['a', 'b'],
            "class 2 is missing in data.dir='pets', 'c' in the checkpoint; "
            '1 of 3 differ (2 classes, 3 in the checkpoint).',
        ),
    ],
)
def test_first_class_that_differs_is_named(stored, own, line):
    with pytest.raises(UserError) as error:
        check(stored, own)
    assert str(error.value) == f'checkpoint 7 knows other classes: {line}'


def test_evaluation_takes_data_with_the_first_of_the_classes_alone():
    check(['a', 'b', 'c'], ['a', 'b'], exact=False)
    for own in (['a', 'c'], ['b', 'c'], ['a', 'b', 'c', 'd']):
        with pytest.raises(UserError, match='knows other classes'):
            check(['a', 'b', 'c'], own, exact=False)


def test_thousand_classes_make_one_short_line():
    names = [f'n{number:08d}' for number in range(1000)]
    with pytest.raises(UserError) as error:
        check(names, names[1:] + names[:1])
    assert str(error.value).endswith('; 1000 of 1000 differ.') and len(str(error.value)) < 150


def test_accents_are_compared_as_they_are_read():
    name = 'Äffchen'
    decomposed = unicodedata.normalize('NFD', name)
    assert name != decomposed
    check([name], [decomposed])


def test_only_the_first_host_prints_that_classes_are_unknown(monkeypatch, capsys):
    for host, lines in ((1, 0), (0, 1)):
        monkeypatch.setattr('jax.process_index', lambda host=host: host)
        check_classes('checkpoint 7', None, ['cat'], "data.dir='pets'", exact=False)
        assert capsys.readouterr().err.count('names no classes') == lines
