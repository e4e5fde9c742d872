"""`python -m mobilenets_jax models`: the numbers it prints, and how it refuses what it does not know."""

import json

import pytest

from mobilenets_jax.__main__ import main


def _run(capsys, *argv) -> str:
    assert main(['models', *argv]) == 0
    return capsys.readouterr().out


def test_json_has_ours_and_the_published(capsys):
    (row,) = json.loads(_run(capsys, 'mobilenet_v3_large', '--width=0.75', '--json'))
    notes = row.pop('notes')
    assert row == {
        'name': 'mobilenet_v3_large',
        'width_multiplier': 0.75,
        'image_size': 224,
        'convention': 'tf',
        'params': 3993528,
        'batch_stats': 4012616 - 3993528,
        'norm_params': 3993528 - 3974440,
        'madds': 154560624,
        'published': {'params': 4.0, 'madds': 155, 'top1': 73.3, 'source': '1905.02244v5 Table 9'},
    }
    assert any('8.26M' in note for note in notes)


def test_a_size_and_convention_without_published_values(capsys):
    (row,) = json.loads(_run(capsys, 'mobilenet_v2', '--size=128', '--convention=keras', '--width=0.5', '--json'))
    assert (row['params'], row['published']) == (1968680, None)


@pytest.mark.parametrize(
    ('options', 'listed'),
    [
        (['--convention=megvii'], ['shufflenet_v1_g3', 'shufflenet_v1_g8', 'shufflenet_v2']),
        (
            ['--convention=torchvision', '--width=0.75'],
            ['mobilenet_v1', 'se_mobilenet_v1', 'mobilenet_v2']
            + [f'mobilenet_v3_{size}{form}' for form in ('', '_minimalistic') for size in ('large', 'small')]
            + ['mnasnet_b1', 'resnet50'],
        ),
    ],
)
def test_without_names_all_that_have_the_convention_and_width(capsys, options, listed):
    assert [row['name'] for row in json.loads(_run(capsys, *options, '--json'))] == listed


def test_text_is_aligned_and_ends_with_the_notes(capsys):
    header, v1, v2, blank, *notes = _run(capsys, 'mobilenet_v1', 'mobilenet_v2').splitlines()
    assert v1.split()[:6] == ['mobilenet_v1', '1', '224', '4,231,976', '21,888', '568,740,352']
    assert v2.split()[6:9] == ['3.4M', '300M', '72']
    for column in ('parameters', 'BN stats', 'top-1'):
        end = header.index(column) + len(column)
        assert all(line[end - 1].isdigit() and line[end] == ' ' for line in (v1, v2))
    assert blank == ''
    assert notes[0] == 'Where paper and code disagree:'
    assert any(line.startswith('  mobilenet_v2: Width 1.4: the paper prints 6.9M') for line in notes)


def test_markdown(capsys):
    lines = _run(capsys, 'mobilenet_v3_small', '--markdown').splitlines()
    assert lines[1].startswith('| --- | ---: |')
    assert lines[2] == (
        '| mobilenet_v3_small | 1 | 224 | 2,542,856 | 12,112 | 56,510,400 | 2.5M | 57M | 67.5 | 1905.02244v5 Table 9 |'
    )


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['mobilenet_v9'], "model.name='mobilenet_v9' is unknown. Known: "),
        (['mobilenet_v2', '--convention=caffe'], "convention of mobilenet_v2='caffe' is unknown. Known: "),
        (['--convention=caffe'], "--convention='caffe' is unknown. Known: "),
        (
            ['shufflenet_v2', '--width=0.75'],
            'width_multiplier of shufflenet_v2=0.75 is unknown. Known: 0.5, 1.0, 1.5, 2.0.',
        ),
        (['mobilenet_v2', '--width=0'], 'width_multiplier=0.0 must be positive.'),
        (['mobilenet_v2', '--size=-1'], '--size=-1 must be positive.'),
    ],
)
def test_a_mistake_is_one_line_and_status_2(capsys, argv, message):
    assert main(['models', *argv]) == 2
    output = capsys.readouterr()
    assert output.out == ''
    assert output.err.startswith(f'error: {message}')
    assert output.err.count('\n') == 1


def test_a_malformed_option_is_one_line_and_status_2(capsys):
    with pytest.raises(SystemExit, match='2'):
        main(['models', '--width=wide'])
    assert capsys.readouterr().err == ("error: argument --width: invalid float value: 'wide'\n")


def test_detectors_as_they_are_published(capsys):
    lines = _run(capsys, '--task=detection', 'mobilenet_v3_large').splitlines()
    assert [line.split()[:9] for line in lines[1:4]] == [
        ['mobilenet_v3_large', 'full', 'tf', '1', '320', '90', '5,006,735', '4,966,591', '613,143,104'],
        ['mobilenet_v3_large', 'detection', 'tf', '1', '320', '90', '3,248,255', '3,215,311', '506,563,904'],
        ['mobilenet_v3_large', 'detection', 'torchvision', '1', '320', '90', '3,440,060', '3,407,116', '583,171,904'],
    ]
    assert lines[2].split()[9:] == ['3.22M', '0.51B', '22', '119', '1905.02244v5', 'Table', '6']
    assert lines[3].split()[9:] == ['3.44006M', '0.583B', '21.3', '-', 'torchvision', '0.28']
    assert lines[5] == 'What the sources print:' and len(lines) == 7
    (row,) = json.loads(_run(capsys, '--task=detection', '--width=0.35', 'mobilenet_v2', '--size=160', '--json'))
    assert (row['params'], row['image_size'], row['published']['ap']) == (947_709, 160, 13.7)


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['--task=pose'], "--task='pose' is unknown. Known: classification, detection."),
        (['--task=detection', 'resnet50'], "detector on='resnet50' is unknown. Known: mnasnet_a1, mobilenet_v1, "),
        (['--task=detection', '--width=0.9'], 'no published detector has --width=0.9 and --convention=None.'),
    ],
)
def test_detectors_that_are_not_published(capsys, argv, message):
    assert main(['models', *argv]) == 2
    assert capsys.readouterr().err.startswith(f'error: {message}')
