"""A config saved by another version, or damaged, is read with the fields of today or refused by its place."""

import importlib
import json
import pathlib
import sys

import numpy as np
import pytest

from mobilenets_jax.checkpoints import CheckpointManager, write_manifest
from mobilenets_jax.config import read_json
from mobilenets_jax.errors import UserError
from mobilenets_jax.identity import Identity, network_fields
from mobilenets_jax.renamed_fields import with_new_paths
from mobilenets_jax.saved_config import config_of_checkpoint, with_saved

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
base, saved_file = importlib.import_module('configs.base'), importlib.import_module('configs.saved')

SAVED = {
    'seed': 7,
    'label_smoothing': 0,
    'num_steps': 540,
    'speed': 'high',
    'model': {'name': 'mobilenet_v2', 'depth': 3, 'bn_epsilon': None},
    'optimizer': {'rate_factors': [['^backbone/', 0.5]]},
    'ema': 0.99,
}
UNKNOWN = ['speed', 'model.depth', 'ema']


def test_values_are_taken_and_what_is_missing_has_its_default():
    config, unknown = with_saved(base.get_config(), SAVED, 'checkpoint 40')
    assert unknown == UNKNOWN
    changed = {'seed': 7, 'label_smoothing': 0.0, 'num_steps': 540}
    expected = base.get_config().to_dict() | changed
    expected['model'] |= {'name': 'mobilenet_v2'}
    expected['optimizer'] |= {'rate_factors': (['^backbone/', 0.5],)}
    assert config.to_dict() == expected


def test_renamed_fields_keep_their_values():
    saved = {'model': {'dropped_strides': 2}, 'data': {'crop': 'resize', 'eval_crop': 'resize_crop'}}
    config, unknown = with_saved(base.get_config(), saved, 'checkpoint 40')
    of_file = with_new_paths({'model.dropped_strides': 2, 'model.name': 'mobilenet_v1'})
    assert of_file == {'model.num_removed_strides': 2, 'model.name': 'mobilenet_v1'}
    assert (config.model.num_removed_strides, config.data.train_crop, config.data.eval_crop, unknown) == (
        *(2, 'resize', 'resize_crop'),
        [],
    )


def test_checkpoint_of_an_older_version_is_read_under_the_names_of_today(tmp_path):
    """It is restored by a run with the same network, refused by one with another, and its config has today's names."""
    fields = network_fields({'model': {'name': 'mobilenet_v1', 'num_removed_strides': 2}})
    old = {{'num_removed_strides': 'dropped_strides'}.get(name, name): value for name, value in fields.items()}
    config = {'model': {'name': 'mobilenet_v1', 'dropped_strides': 2}, 'data': {'crop': 'resize'}}
    with CheckpointManager(tmp_path, identity=Identity(fields=old, class_names=())) as checkpoints:
        checkpoints.save(40, {'x': np.arange(2.0)}, meta={'config': config})
    with CheckpointManager(tmp_path, identity=Identity(fields=fields, class_names=())) as checkpoints:
        restored = checkpoints.restore({'x': np.zeros(2)})
    assert restored.identity['num_removed_strides'] == 2 and 'dropped_strides' not in restored.identity
    assert restored.meta['config'] == {
        'model': {'name': 'mobilenet_v1', 'num_removed_strides': 2},
        'data': {'train_crop': 'resize'},
    }
    _, values = config_of_checkpoint(tmp_path, None, base.get_config())
    assert (values['model.num_removed_strides'], values['data.train_crop']) == (2, 'resize')
    other = Identity(fields=fields | {'num_removed_strides': 0}, class_names=())
    line = r'holds mobilenet_v1 \(num_removed_strides=2\); the run asks for .*=0\)'
    with CheckpointManager(tmp_path, identity=other) as checkpoints, pytest.raises(UserError, match=line):
        checkpoints.restore({'x': np.zeros(2)})


@pytest.mark.parametrize(
    ('saved', 'line'),
    [
        ({'seed': 'one'}, r"checkpoint 40: seed='one' is no value of this field \(int\)\."),
        ({'seed': 1.5}, r'checkpoint 40: seed=1\.5 is no value of this field \(int\)\.'),
        ({'ema': {'decay': [0.9]}}, r'checkpoint 40: ema\.decay=\[0\.9\] is no value of this field \(float\)\.'),
        (
            {'ema': {'decay': None}},
            r'checkpoint 40: ema\.decay=None is no value of this field, which cannot be unset\.',
        ),
        ({'num_steps': 'all'}, r"checkpoint 40: num_steps='all' is no value of this field \(number or word\)\."),
        ([1, 2], r'checkpoint 40: its config is no object of JSON, but \[1, 2\]\.'),
        (None, r'checkpoint 40: its config is no object of JSON, but None\.'),
    ],
)
def test_value_that_is_none_is_named(saved, line):
    with pytest.raises(UserError, match=f'^{line}$'):
        with_saved(base.get_config(), saved, 'checkpoint 40')


def test_checkpoint_gives_every_field_of_today(tmp_path, capsys):
    identity = Identity(fields=network_fields({'model': {'name': 'mobilenet_v2'}}), class_names=())
    with CheckpointManager(tmp_path, identity=identity) as checkpoints:
        checkpoints.save(40, {'x': np.zeros(2)}, meta={'config': SAVED})
        checkpoints.save(60, {'x': np.zeros(2)}, meta={})
    step, fields = config_of_checkpoint(tmp_path, 40, base.get_config())
    assert (step, fields['seed'], fields['model.name'], fields['ema.decay']) == (40, 7, 'mobilenet_v2', 0.9999)
    assert capsys.readouterr().err == (
        f'checkpoint {tmp_path}/40: 3 field(s) of its config are left out, as there are none today: '
        'speed, model.depth, ema\n'
    )
    with pytest.raises(UserError, match=f'^checkpoint {tmp_path}/60 was saved without a config; give it one by '):
        config_of_checkpoint(tmp_path, None, base.get_config())


def test_facts_of_a_checkpoint_that_are_damaged_are_named_with_the_place(tmp_path):
    """Where the manifest was made to agree: else the checkpoint before it is taken."""
    identity = Identity(fields={}, class_names=())
    with CheckpointManager(tmp_path, identity=identity) as checkpoints:
        checkpoints.save(40, {'x': np.zeros(2)}, meta={'config': SAVED})
    facts = tmp_path / '40' / 'meta' / 'metadata'
    for content, fault in (
        ('{"identity":\n {}, "meta": [}', r', line 2, column 15: no JSON \(Expecting value\)\.'),
        (
            '{"identity": {}, "meta": {}, "arrays": []}',
            " has no 'arrays', which every checkpoint of this project has\\.",
        ),
        ('[]', " has no 'identity', which every checkpoint of this project has\\."),
    ):
        facts.write_text(content)
        write_manifest(tmp_path / '40')
        with pytest.raises(UserError, match=f'^{facts}{fault}$'):
            config_of_checkpoint(tmp_path, None, base.get_config())


@pytest.mark.parametrize(
    ('content', 'fault'),
    [
        (b'{\n "seed": 1,\n "model": }\n', r', line 3, column 11: no JSON \(Expecting value\)\.'),
        (b'', r', line 1, column 1: no JSON \(Expecting value\)\.'),
        (bytes(9), r', line 1, column 1: no JSON \(Expecting value\)\.'),
        (b'{"seed": 1', r', line 1, column 11: no JSON \(.*delimiter\)\.'),
        (b'{"seed": 1}}', r', line 1, column 12: no JSON \(Extra data\)\.'),
        (b'{\n"a": "\xff"}', r', line 2, column 7: no UTF-8, so no JSON\.'),
        (b'[' * 100_000, r' cannot be read: .*'),
        (None, r' cannot be read: Is a directory\.'),
    ],
)
def test_broken_file_is_named_with_the_place(content, fault, tmp_path):
    path = tmp_path / 'config.json'
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=f'^{path}{fault}$'):
        read_json(path)
    with pytest.raises(UserError, match=f'^{path}{fault}$'):
        saved_file.get_config(str(path))


def test_config_of_another_run_is_a_config_file(tmp_path, capsys):
    path = tmp_path / 'config.json'
    with pytest.raises(UserError, match=f'^--config: there is no {path}; every run writes its config.json'):
        saved_file.get_config(str(path))
    path.write_text(json.dumps(SAVED))
    assert saved_file.get_config(str(path)).model.name == 'mobilenet_v2'
    assert capsys.readouterr().err.startswith(f'{path}: 3 field(s) of its config are left out')
