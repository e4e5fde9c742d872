"""Tables measured here, with a clock that is a formula: which parts are measured, and what their sums predict."""

import json
import math
import zlib

import numpy as np
import pytest
from tiny_space import tiny_space

from mobilenets_jax import latency_table
from mobilenets_jax.__main__ import main
from mobilenets_jax.commands import latency_table as command
from mobilenets_jax.errors import UserError
from mobilenets_jax.models import get_spec
from mobilenets_jax.search import netadapt
from mobilenets_jax.search.channels import Channels, count
from mobilenets_jax.search.latency import latency_model
from mobilenets_jax.search.measured_latency import BLOCK, errors, parts
from mobilenets_jax.search.spaces import get_space

SIZE = 32


def clock(part):
    """Milliseconds of a part: linear in each of its widths, another function for each kind."""
    factors = [1 + zlib.crc32(f'{part.kind}{axis}'.encode()) % 7 for axis in range(len(part.widths))]
    return 1e-3 * math.prod(factor + width / 16 for factor, width in zip(factors, part.widths, strict=True))


def time_by_formula(timed, networks, slower=1.0):
    return np.array([*map(clock, timed), *(slower * truth(network) for network in networks)])


def truth(spec, image_size=SIZE):
    return sum(map(clock, parts(spec, image_size)))


def written(plan, path, **options):
    def timer(*arguments):
        return time_by_formula(*arguments, **options)

    path.write_text(json.dumps(latency_table.measured(plan, timer, 'a formula', {})))
    return str(path)


def test_every_part_of_a_space_is_measured_once(tmp_path):
    """ProxylessNAS: stem, tail and the first layer's kernels; six options of the first and of a repeated layer."""
    plan = latency_table.plan_of_space(get_space('proxylessnas'), 1.0, 224)
    assert len(plan.parts) == 1 + 1 + 3 + 6 * 6 + 5 * 6
    assert len({(part.kind, part.widths) for part in plan.parts}) == len(plan.parts)
    sizes = {part.size for part in plan.parts}
    assert sizes == {224, 112, 56, 28, 14, 7}
    with pytest.raises(UserError, match=r"^--space='tunas_v3' has more than 3000 parts to be measured: --options can"):
        latency_table.plan_of_space(get_space('tunas_v3'), 1.0, 224)


@pytest.mark.parametrize('width', [1.0, 0.5])
def test_sums_are_the_latencies_of_a_spaces_networks(tmp_path, width):
    plan = latency_table.plan_of_space(tiny_space(), width, SIZE)
    path = tmp_path / 'table.json'
    model = latency_model('measured', written(plan, path))
    assert model.device == 'a formula'
    for network in plan.networks:
        assert model.milliseconds(network, SIZE) == pytest.approx(truth(network), rel=1e-12)
    found = json.loads(path.read_text())
    assert found['error_percent']['largest'] < 1e-9 and len(found['networks']) == latency_table.WHOLE_NETWORKS
    # Whole networks that take longer than their parts: 100 / 1.25 - 100.
    found = latency_table.measured(plan, lambda *a: time_by_formula(*a, slower=1.25), 'x', {})['error_percent']
    assert found == pytest.approx({'mean': 20, 'largest': 20, 'signed_mean': -20})
    with pytest.raises(UserError, match=r'table.json has nothing like it for a stem of .* channels at 64 pixels'):
        model.milliseconds(plan.networks[0], 64)


def test_every_candidate_of_netadapt_has_a_latency(tmp_path):
    """Also of widths between those that were measured, exactly where the truth is linear; until nothing is left."""
    spec = get_spec('mobilenet_v3_small')
    plan = latency_table.plan_of_network('v3', spec, SIZE)
    assert all(
        part.spec.blocks[0].expanded != part.in_channels
        for part in plan.parts
        if part.name == BLOCK and '"expands": true' in part.made_of
    )
    model = latency_model('measured', written(plan, tmp_path / 'table.json'))
    channels, rng = Channels(spec), np.random.default_rng(0)
    kept, rounds = channels.all_kept, 0
    saved = 0.03 * truth(spec)
    while offered := netadapt.proposals(channels, count(kept), lambda one: model.milliseconds(one, SIZE), saved):
        for proposal in offered:
            narrowed = channels.narrowed({**count(kept), proposal.group: proposal.width})
            assert proposal.milliseconds == pytest.approx(truth(narrowed), rel=1e-9)
        taken = offered[rng.integers(len(offered))]
        kept = {**kept, taken.group: np.arange(len(kept[taken.group])) < taken.width}
        rounds += 1
    assert rounds > 8


def test_every_kind_of_block_has_a_grid(tmp_path):
    """Separable blocks, dense ones, squeezes of another rule, pooled stems."""
    for name in ('mobilenet_v1', 'mobilenet_edgetpu', 'mnasnet_a1'):
        plan = latency_table.plan_of_network(name, get_spec(name), 64)
        model = latency_model('measured', written(plan, tmp_path / f'{name}.json'))
        for network in plan.networks:
            assert model.milliseconds(network, 64) == pytest.approx(truth(network, 64), rel=1e-9)
        assert len({model.milliseconds(network, 64) for network in plan.networks}) == len(plan.networks)


def test_errors_are_in_percent_of_the_whole_networks():
    assert errors([1.1, 1.8], [1.0, 2.0]) == pytest.approx({'mean': 10, 'largest': 10, 'signed_mean': 0})


ROW = {'part': 'stem', 'size': 32, 'made_of': {}, 'widths': [8], 'milliseconds': 1.0}


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('[1]', 'list'),
        ('{', ' is no table of latencies'),
        ('{"format": "other"}', "='other' is no table of the format"),
        ({'parts': 3}, 'parts=3 must be a list'),
        ({'parts': [{'part': 'stem'}]}, r'parts\[0\]=.* is no part of a measured table'),
        ({'parts': [{**ROW, 'widths': ['8']}]}, r'parts\[0\]=.* is no part of a measured table'),
        ({'parts': [ROW, {**ROW, 'milliseconds': 'fast'}]}, r"parts\[1\]='fast' must be a number of milliseconds"),
        ({'parts': [{**ROW, 'milliseconds': math.nan}]}, r'parts\[0\]=nan must be a positive number of milliseconds'),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path, content, message):
    path = tmp_path / 'table.json'
    if isinstance(content, dict):
        content = json.dumps({'format': 'mobilenets_jax latencies 1', **content})
    path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        latency_model('measured', str(path))
    assert str(path) in str(error.value)


def test_the_command_says_how_far_off_the_sums_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, 'needed', lambda module: None)
    monkeypatch.setattr(command.importlib.metadata, 'version', lambda package: '9.9')
    asked = []
    monkeypatch.setattr(command, 'litert_timer', lambda *options: asked.append(options) or time_by_formula)
    path = tmp_path / 't.json'
    options = "--options=(('/kernel$', (3,)),)"
    argv = ['--space=proxylessnas', options, f'--table={path}', '--width=0.5', '--image_size=32', '--runs=7']
    assert main(['latency', *argv]) == 0
    output = capsys.readouterr()
    assert output.err == 'proxylessnas: timing 25 parts and 10 networks\n'  # of three kernels one
    lines = output.out.splitlines()
    assert lines[0].startswith('25 parts of proxylessnas at 32 pixels on ')
    assert lines[0].endswith(', LiteRT 9.9, 1 thread')
    assert lines[1] == 'sums against 10 whole networks: 0.0 % off in the mean, 0.0 % at most, +0.0 % with the sign'
    assert asked == [(32, 1, 7)]
    found = json.loads(path.read_text())
    assert (found['runs'], found['threads'], found['width'], found['options']) == (7, 1, 0.5, "(('/kernel$', (3,)),)")
    assert found['versions']['ai-edge-litert'] == '9.9' and found['date'].endswith('+00:00')


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['--space=proxylessnas'], "--space='proxylessnas' has no effect without --table."),
        (['--table=t'], '--table needs --space=NAME, or one network: NAME, NAME:WIDTH or F.json.'),
        (['--table=t', '--space=proxy'], "search.space='proxy' is unknown. Known: "),
        (['--table=t', '--space=proxylessnas', 'mobilenet_v2'], "--space='proxylessnas' makes a table by itself"),
        (['--table=t', '--space=proxylessnas', '--options=3x'], "--options='3x' is no Python tuple: "),
        (['--table=t', '--space=proxylessnas', '--options=3'], "--options='3' must be pairs of a pattern and options."),
        (['--table=t', '--space=proxylessnas', '--width=0'], '--width=0.0 must be positive.'),
        (['--table=t', '--width=0.5', 'mobilenet_v2'], '--width=0.5 has no effect without --space.'),
        (['--table=t', '--int8', 'mobilenet_v2'], '--int8=True has no effect with --table.'),
        (['--table=t', 'none.json'], 'none.json cannot be read: No such file or directory.'),
        (['--table=t', 'ghostnet'], "a block of the kind 'ghost_bottleneck' has no latency."),
    ],
)
def test_a_mistake_is_one_line(capsys, argv, message):
    assert main(['latency', *argv]) == 2
    output = capsys.readouterr()
    assert output.out == '' and output.err.startswith(f'error: {message}') and output.err.count('\n') == 1
