"""A table that LiteRT really measures: its parts are those of the network, and their sum is not far from it."""

import dataclasses
import json

from mobilenets_jax.__main__ import main
from mobilenets_jax.export.file_madds import file_madds
from mobilenets_jax.export.parts import part_files
from mobilenets_jax.latency_table import module_of
from mobilenets_jax.models import get_spec
from mobilenets_jax.search.found import Found
from mobilenets_jax.search.latency import latency_model
from mobilenets_jax.search.measured_latency import parts
from mobilenets_jax.search.published_latencies import madds_by_kind

SIZE = 64


def test_files_of_parts_have_the_multiply_adds_of_the_network(packages):
    spec = get_spec('mobilenet_v3_small', 0.25)
    files = part_files([(module_of(part), part.size, part.in_channels) for part in parts(spec, SIZE)])
    assert len(files) == 11 + 2
    total = dict.fromkeys(madds_by_kind(spec, SIZE), 0)
    for content in files:
        for kind, madds in file_madds(content).by_kind.items():
            total[kind] += madds
    assert sum(total.values()) == sum(madds_by_kind(spec, SIZE).values())
    assert total['depthwise'] == madds_by_kind(spec, SIZE)['depthwise']


def test_a_table_of_a_tiny_network(packages, tmp_path, capsys):
    spec = get_spec('mobilenet_v2', 0.35)
    small = dataclasses.replace(spec, blocks=spec.blocks[:2], head_conv=None)

    (tmp_path / 'small.json').write_text(Found('small', small, {}).json)
    path = tmp_path / 'table.json'
    assert main(['latency', str(tmp_path / 'small.json'), f'--table={path}', f'--image_size={SIZE}', '--runs=5']) == 0
    assert 'sums against 10 whole networks: ' in capsys.readouterr().out
    found = json.loads(path.read_text())
    assert all(0 < row['milliseconds'] < 100 for row in (*found['parts'], *found['networks']))
    assert 0 < latency_model('measured', str(path)).milliseconds(small, SIZE) < 100
    assert found['device'].endswith('1 thread') and found['error_percent']['largest'] >= found['error_percent']['mean']
