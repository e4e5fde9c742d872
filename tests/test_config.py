"""Durations in every spelling, the view that knows what was read, and atomic files."""

import json

import ml_collections
import pytest

from mobilenets_jax.config import ConfigView, check_finite, duration, keep_overriding_spellings, write_json
from mobilenets_jax.errors import UserError

EPOCH = {'batch_size': 32, 'examples_per_epoch': 1000}


@pytest.mark.parametrize(
    ('fields', 'steps'),
    [
        ({'warmup_steps': 7}, 7),
        ({'warmup_epochs': 2.0}, 62),  # 62.5 whole steps
        ({'warmup_examples': 320}, 10),
        ({'warmup_percent': 10.0}, 20),
        ({'warmup_percent': 0.1}, 1),  # positive, so at least one
        ({'warmup_epochs': 0.0}, 0),
        ({'warmup_steps': None, 'warmup_epochs': 1.0}, 31),
        ({}, None),
    ],
)
def test_duration_in_steps(fields, steps):
    assert duration(fields, 'warmup', total_steps=200, **EPOCH) == steps


def test_two_spellings_are_refused():
    with pytest.raises(UserError, match='warmup_steps=7 and warmup_epochs=2.0 spell one duration twice'):
        duration({'warmup_steps': 7, 'warmup_epochs': 2.0}, 'warmup', **EPOCH)


def test_negative_duration_is_refused():
    with pytest.raises(UserError, match='warmup_epochs=-1 must not be negative.'):
        duration({'warmup_epochs': -1}, 'warmup', **EPOCH)


def test_command_line_replaces_the_spelling_of_the_file():
    config = ml_collections.ConfigDict({'num_steps': 10, 'num_epochs': 2.0, 'schedule': {'warmup_percent': 7.0}})
    config.schedule.warmup_steps = 5
    keep_overriding_spellings(config, {'num_epochs': 2.0, 'schedule.warmup_steps': 5, 'schedule.name': 'cosine'})
    assert config.to_dict() == {
        'num_steps': None,
        'num_epochs': 2.0,
        'schedule': {'warmup_percent': None, 'warmup_steps': 5},
    }


def test_spelling_that_is_unset_replaces_no_other():
    config = ml_collections.ConfigDict({'num_steps': None, 'num_epochs': 2.0})
    keep_overriding_spellings(config, {'num_steps': None})
    assert config.to_dict() == {'num_steps': None, 'num_epochs': 2.0}


@pytest.mark.parametrize('value', [float('inf'), float('-inf'), float('nan'), (('^a', 0.5), ('^b', float('nan')))])
def test_number_that_is_not_finite_is_named(value):
    leaves = ConfigView({'name': 'nan', 'steps': 10**400, 'none': None, 'optimizer': {'x': 1.0, 'y': value}}).leaves()
    with pytest.raises(UserError) as error:
        check_finite(leaves)
    assert str(error.value) == f'optimizer.y={value!r} must be finite.'


def test_finite_numbers_pass():
    check_finite(ConfigView({'rate': 1e300, 'skip': ('inf',), 'factors': (('^a', 0.0),), 'flag': True}).leaves())


def test_two_spellings_on_the_command_line_both_stay():
    config = ml_collections.ConfigDict({'num_steps': 10, 'num_epochs': 2.0})
    keep_overriding_spellings(config, {'num_epochs': 2.0, 'num_steps': 10})
    assert config.to_dict() == {'num_steps': 10, 'num_epochs': 2.0}


def test_view_names_what_nothing_read():
    view = ConfigView({'seed': 1, 'model': {'name': 'x', 'width': 1.0}, 'data': {'dir': ''}})
    assert view.seed == 1 and view.model.name == 'x' and dict(view.data) == {'dir': ''}
    assert view.unread() == ['config.model.width']
    assert view.to_dict()['model'] == {'name': 'x', 'width': 1.0}
    assert view.unread() == ['config.model.width']


def test_unknown_field_of_a_view():
    with pytest.raises(AttributeError, match="config.model has no field 'depth'"):
        _ = ConfigView({'model': {}}).model.depth


def test_json_is_written_in_one_move(tmp_path):
    path = tmp_path / 'config.json'
    write_json(path, {'b': 1, 'a': [1, None]})
    write_json(path, {'a': 2})
    assert json.loads(path.read_text()) == {'a': 2}
    assert [file.name for file in tmp_path.iterdir()] == ['config.json']
