"""MobileNetV3's manual steps: undone in the published tables, they give them back; and the command that takes them."""

import dataclasses
import json

import pytest

from mobilenets_jax.__main__ import main
from mobilenets_jax.errors import UserError
from mobilenets_jax.models import create_model, get_spec
from mobilenets_jax.models.found import canonical, to_text
from mobilenets_jax.report.counts import count_module
from mobilenets_jax.search import redesign
from mobilenets_jax.search.found import Found
from mobilenets_jax.search.netadapt import as_table
from mobilenets_jax.search.operations import operations

LARGE, SMALL = get_spec('mobilenet_v3_large'), get_spec('mobilenet_v3_small')
# As before sections 5.1 and 5.2 of the paper.
UNDONE = get_spec('mobilenet_v3_large', last_stage='original', stem_channels=32, nonlinearity='relu')


def madds(spec):
    return sum(operation.madds for operation in operations(spec, 224))


def test_the_steps_give_the_published_table_back():
    """With what the paper prints of them: -30M multiply-adds of the last stage, -10M of the stem (section 5.1)."""
    stage, stem, hard_swish = redesign.redesigned(UNDONE)
    assert hard_swish.spec == LARGE
    # Of 49 pixels: a 3x3 depthwise layer of 960, 960 -> 320 and 320 -> 1280; of one pixel 960 -> 1280.
    saved = 49 * (9 * 960 + 960 * 320 + 320 * 1280) - 960 * 1280
    assert madds(UNDONE) - madds(stage.spec) == saved and saved == pytest.approx(30e6, rel=0.15)
    # Of 112x112 pixels: 16 filters of the stem, 16 depthwise ones, 16 inputs of the 16 outputs of the first block.
    saved = 112**2 * 16 * (27 + 9 + 16)
    assert madds(stage.spec) - madds(stem.spec) == saved and saved == pytest.approx(10e6, rel=0.05)
    assert madds(hard_swish.spec) == madds(stem.spec) == madds(LARGE)


@pytest.mark.parametrize('table', [LARGE, SMALL], ids=['large', 'small'])
def test_published_tables_have_it_all(table):
    assert all(step.spec == table for step in redesign.redesigned(table))


def test_h_swish_begins_where_it_does_in_both_networks():
    """In the second half of Small, whose rows are narrower than Large's; from a width on as of the paper's Table 5."""
    all_relu = get_spec('mobilenet_v3_small', nonlinearity='relu')
    assert redesign.with_hard_swish(redesign.with_narrow_stem(all_relu)) == SMALL
    everywhere = LARGE.replace_rows(activation='hard_swish')
    assert redesign.with_hard_swish(everywhere) == LARGE
    for width in (16, 80, 112):
        wanted = get_spec('mobilenet_v3_large', hard_swish_from=width)
        assert redesign.with_hard_swish(LARGE, width) == wanted
    v2 = redesign.with_hard_swish(get_spec('mobilenet_v2'))
    assert [row.activation for row in v2.blocks] == 6 * ['relu6'] + 11 * ['hard_swish']


def test_a_stem_is_never_widened_and_takes_what_follows_it():
    """A separable first block reads the stem's channels; an expansion is its own."""
    assert redesign.with_narrow_stem(SMALL, 24).stem.channels == 16
    v1 = redesign.with_narrow_stem(get_spec('mobilenet_v1'), 16)
    assert (v1.stem.channels, v1.blocks[0].expanded, v1.blocks[0].out_channels) == (16, 16, 64)
    expands = dataclasses.replace(UNDONE.blocks[0], expanded=96)
    spec = redesign.with_narrow_stem(dataclasses.replace(UNDONE, blocks=(expands, *UNDONE.blocks[1:])))
    assert spec.blocks[0].expanded == 96


def last_row(**fields):
    blocks = (*UNDONE.blocks[:-1], dataclasses.replace(UNDONE.blocks[-1], **fields))
    return dataclasses.replace(UNDONE, blocks=blocks)


@pytest.mark.parametrize(
    ('step', 'message'),
    [
        (
            lambda: redesign.with_efficient_last_stage(dataclasses.replace(UNDONE, head_conv=None)),
            '^head_conv=None: the table has no convolution to compute behind the pooling',
        ),
        (
            lambda: redesign.with_efficient_last_stage(last_row(kind='dense_inverted_residual')),
            r"^blocks\[15\].kind='dense_inverted_residual' must be inverted_residual in the last row",
        ),
        (
            lambda: redesign.with_efficient_last_stage(last_row(expanded=160)),
            r'^blocks\[15\].expanded=160 must be an expansion in the last row',
        ),
        (
            lambda: redesign.with_efficient_last_stage(last_row(stride=2)),
            r'^blocks\[15\].stride=2 must be 1 in the last row',
        ),
        (
            lambda: redesign.with_narrow_stem(
                dataclasses.replace(
                    UNDONE, blocks=(dataclasses.replace(UNDONE.blocks[0], expanded=16), *UNDONE.blocks[1:])
                )
            ),
            r'^blocks\[0\].expanded=16 is an expansion, which a stem of 16 channels would leave out',
        ),
        (
            lambda: redesign.with_hard_swish(dataclasses.replace(LARGE, blocks=LARGE.blocks[:6])),
            '^stride=8 is reached by no row: give h-swish a width to begin at',
        ),
        (
            lambda: redesign.with_hard_swish(LARGE, 161),
            '^hard_swish_from=161 is beyond the widest row, which has 160 channels',
        ),
    ],
)
def test_a_table_that_a_step_does_not_fit_is_refused(step, message):
    with pytest.raises(UserError, match=message):
        step()


@pytest.fixture
def undone(tmp_path):
    path = tmp_path / 'undone.json'
    path.write_text(Found('undone', as_table(UNDONE), {}).json)
    return str(path)


def test_the_command_counts_each_step_and_writes_the_table(undone, tmp_path, capsys):
    out = tmp_path / 'redesigned.json'
    assert main(['redesign', undone, f'--out={out}']) == 0
    lines = capsys.readouterr().out.splitlines()
    start, stage, stem, hard_swish = (line.split('  ') for line in lines[1:5])
    assert [row[0] for row in (start, stage, stem)] == [
        'undone',
        'last convolution behind the pooling',
        'stem of 16 with h-swish',
    ]
    # Table 9 has 5.4M parameters and 217M multiply-adds, and Table 3 51.2 ms.
    params, madds_, ms = (cell.split()[0] for cell in ' '.join(hard_swish[1:]).replace(' M', '').split()[::2])
    assert (params, madds_, ms) == ('5.48', '216.6', '51.37')
    changes = [[cell for cell in ' '.join(row[1:]).split() if cell[0] in '+-'] for row in (stage, stem)]
    assert changes == [['+0.50', '-34.3', '-4.57'], ['-0.00', '-10.4', '-2.70']]
    name, text = canonical(out.read_text(), 'redesigned.json')
    assert name == 'undone_redesigned' and text == to_text(name, as_table(LARGE))
    assert count_module(create_model(name, table=text), 224) == count_module(create_model('mobilenet_v3_large'), 224)
    assert main(['redesign', str(out), f'--out={tmp_path / "again.json"}', '--hard_swish_from=112']) == 0
    again = capsys.readouterr().out.splitlines()
    assert [line.split(': ')[-1].split('  ')[0] for line in again[2:4]] == ['as it was', 'as it was']
    found = json.loads((tmp_path / 'again.json').read_text())
    assert [row['activation'] for row in found['blocks']].index('hard_swish') == 10


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['none.json', '--out=F'], 'none.json cannot be read: No such file or directory.'),
        (['TABLE', '--out=F', '--stem=0'], '--stem=0 must be positive.'),
        (['TABLE', '--out=F', '--latency=phone'], "search.latency='phone' is unknown. Known: "),
        (['TABLE', '--out=F', '--hard_swish_from=400'], 'hard_swish_from=400 is beyond the widest row'),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_file(undone, tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    assert main(['redesign', *(undone if part == 'TABLE' else part for part in argv)]) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f'error: {message}') and output.err.count('\n') == 1 and output.out == ''
    assert not (tmp_path / 'F').exists()
