"""A network from a file is trained, goes on, and is evaluated and read without that file."""

import dataclasses
import json
import re

import pytest
from launching import SHORT_RUN, forked_results

from mobilenets_jax import load_pretrained
from mobilenets_jax.models import get_spec
from mobilenets_jax.models.found import to_text

FIELDS = {name: value for name, value in SHORT_RUN.items() if 'name' not in name and 'width' not in name}
FLAGS = ' '.join(f'--config.{name}={value}' for name, value in (FIELDS | {'num_steps': 4}).items())
TRAIN = f'train.py --config=configs/digits.py --workdir=FOLDER/run {FLAGS}'
FILE = '--config.model.spec_file=FOLDER/found.json'


@pytest.fixture(scope='module')
def network():
    spec = get_spec('mobilenet_v3_small', 0.35)
    return dataclasses.replace(spec, blocks=spec.blocks[:2])


def test_checkpoint_holds_the_table(launcher, network, tmp_path):
    table = json.loads(to_text('found_tiny', network))
    (tmp_path / 'found.json').write_text(json.dumps(table, indent=2))
    ended = launcher.run(*f'{TRAIN} {FILE}'.replace('FOLDER', str(tmp_path)).split())
    assert ended.status == 0, ended
    assert ended.output[0].startswith('found_tiny: ')
    (tmp_path / 'found.json').rename(tmp_path / 'moved.json')
    table['blocks'][1]['expanded'] += 8
    (tmp_path / 'other.json').write_text(json.dumps(table))
    commands = [
        'eval.py --workdir=FOLDER/run',
        f'{TRAIN} {FILE}',
        TRAIN,
        f'{TRAIN} {FILE.replace("found.json", "other.json")}',
        f'{TRAIN} {FILE.replace("found.json", "moved.json")} --config.num_steps=6',
        f'{TRAIN} {FILE.replace("found.json", "moved.json")} --config.model.name=mobilenet_v2',
    ]
    launcher.run_forked(commands, tmp_path)
    measured, gone, without, other, moved, named = forked_results(tmp_path)
    assert json.loads(measured['output'][-1])['model'] == 'found_tiny', measured
    path = tmp_path / 'found.json'
    assert gone['errors'][-1] == f"error: model.spec_file='{path}' cannot be read: No such file or directory."
    holds = r'holds found_tiny \(table=sha256:\w{8}\); the run asks for '
    asked_for = (r'mobilenet_v3_small \(table=none\)', r'found_tiny \(table=sha256:\w{8}\)')
    for result, asked in zip((without, other), asked_for, strict=True):
        assert result['status'] == 2
        assert re.search(holds + asked, result['errors'][-1]), result
    assert moved['status'] == 0 and any('from the checkpoint of step 4' in line for line in moved['output']), moved
    assert named['errors'][-1].startswith("error: model.name='mobilenet_v2' has no effect with model.spec_file="), named
    loaded = load_pretrained(str(tmp_path / 'run'))
    assert loaded.model.spec == get_spec('found_tiny', table=to_text('found_tiny', network))
