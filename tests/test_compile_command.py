"""`compile` reports what a training step costs, for devices that need not be there."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import quick_compile

from mobilenets_jax.commands.compile import collectives, table, tpu_devices

ROOT = Path(__file__).parents[1]
PROGRAM = """
  %all-reduce.1 = (f32[3,4]{1,0:T(8,128)}, bf16[5]{0}) all-reduce(%a, %b), channel_id=1, to_apply=%add
  %all-reduce-start.2 = f32[] all-reduce-start(%c), channel_id=2, to_apply=%add
  %done = f32[] all-reduce-done(%all-reduce-start.2)
  %gathered = u8[2,7]{1,0} all-gather(%d), dimensions={0}
  %fusion.3 = f32[100]{0} fusion(%all-reduce.1), kind=kLoop
"""


def run(*arguments):
    environment = os.environ | {'XLA_FLAGS': quick_compile.FLAGS, 'JAX_PLATFORMS': 'cpu'}
    command = [sys.executable, '-m', 'mobilenets_jax', 'compile', *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


def test_collectives_are_counted_once_with_their_bytes():
    assert collectives(PROGRAM) == [('all-reduce', 58), ('all-reduce', 4), ('all-gather', 14)]


def test_report_of_fake_devices():
    """One reduction of the gradients with the statistics, one of the metrics; FLOPs close to those of the table."""
    small = ['--config.model.name=mobilenet_v1', '--config.model.width_multiplier=0.25', '--config.image_size=16']
    ended = run('--config=configs/digits.py', '--topology=cpu:2', '--batch=8', '--json', *small)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert (report['model'], report['devices'], report['per_device'], report['fits']) == ('mobilenet_v1', 2, 4, True)
    assert set(report['collectives']) == {'all-reduce'} and report['collectives']['all-reduce'] <= 3
    parameters, statistics = 215_642, 5_472
    assert report['collective_bytes'] == pytest.approx(4 * (parameters + statistics), rel=0.01)
    assert 0.5 < report['flops_over_needed'] < 3


def test_table_says_whether_the_step_fits():
    names = {'model': 'm', 'topology': 'v3:4x4', 'device_kind': 'TPU v3'}
    report = names | {'batch_size': 8, 'devices': 2, 'per_device': 4}
    assert table(report | {'fits': False, 'reason': 'out of memory'}).splitlines()[1].split(maxsplit=1) == [
        'fits',
        'no: out of memory',
    ]
    sizes = dict.fromkeys(('argument_bytes', 'temporary_bytes', 'bytes_accessed', 'collective_bytes'), 2**20)
    costs = {'flops': 2e9, 'flops_over_needed': 1.5, 'largest_collective_bytes': 2**20, 'seconds': 3.0}
    lines = table(report | {'fits': True, 'collectives': {'all-reduce': 2}} | sizes | costs).splitlines()
    assert lines[0] == 'm, batch 8 on v3:4x4: 2 x TPU v3, 4 images each'
    assert [line.split()[0] for line in lines[1:3]] == ['fits', 'memory:'] and lines[1].split()[1] == 'yes'


@pytest.mark.parametrize(('topology', 'options'), [('v3:4x4', {}), ('v4:2x2x4', {'chip_config_name': 'megacore'})])
def test_devices_of_v4_are_chips(topology, options, monkeypatch):
    def described(name, platform, **given):
        assert (name, platform) == (topology, 'tpu')
        return SimpleNamespace(devices=given)

    monkeypatch.setattr('jax.experimental.topologies.get_topology_desc', described)
    monkeypatch.setattr(os, 'environ', dict(os.environ))
    assert tpu_devices(topology) == options


@pytest.mark.parametrize(
    ('topology', 'line'),
    [
        ('cpu:none', "--topology='cpu:none' must give a number of devices, e.g. cpu:8."),
        ('v3:nonsense', "--topology='v3:nonsense' cannot be had: "),
    ],
)
def test_wrong_topologies_are_named(topology, line):
    ended = run('--config=configs/digits.py', f'--topology={topology}')
    assert ended.returncode == 2 and ended.stderr.splitlines()[-1].startswith(f'error: {line}')
