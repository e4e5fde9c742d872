"""A damaged `metrics.jsonl` stops no run: readable rows are used, the others are counted, and the file is kept."""

import json

import pytest
from etils import epath

from mobilenets_jax.errors import UserError
from mobilenets_jax.report.curves import Curves, draw_curves
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.progress import Progress, read_metrics

ROWS = [
    {'kind': 'train', 'step': 5, 'loss': 2.5, 'accuracy': 40.0, 'seconds': 7.5, 'starts': 2},
    {'kind': 'eval', 'step': 5, 'loss': 2.25, 'top1': 50.0},
    {'kind': 'train', 'step': 10, 'loss': 2.0, 'accuracy': 60.0, 'seconds': 9.0, 'starts': 3},
]
LINES = [json.dumps(row).encode() for row in ROWS]
DAMAGED = {
    'cut short': LINES[0][:-7],
    'zeros': bytes(300),
    'bytes that are no UTF-8': b'{"kind": "train", "step": 5, "loss": 2.5, "\xff\xfe": 1}',
    'UTF-16': '{"kind": "train", "step": 5}'.encode('utf-16'),
    'a list': b'["train", 5]',
    'a number': b'5',
    'null': b'null',
    'text': b'"kind step"',
    'two rows in a line': LINES[0] + LINES[1],
    'no kind': b'{"step": 5, "loss": 2.5}',
    'no step': b'{"kind": "train", "loss": 2.5}',
    'kind of another type': b'{"kind": ["train"], "step": 5}',
    'step in words': b'{"kind": "train", "step": "5"}',
    'half a step': b'{"kind": "train", "step": 5.5}',
    'step that is true': b'{"kind": "train", "step": true}',
    'negative step': b'{"kind": "train", "step": -5}',
    'step beyond every run': b'{"kind": "train", "step": 99999999999999999999999}',
    'loss in words': b'{"kind": "train", "step": 5, "loss": "low"}',
    'loss of another type': b'{"kind": "train", "step": 5, "loss": [2.5]}',
    'number too large for a double': b'{"kind": "train", "step": 5, "loss": 1' + b'0' * 400 + b'}',
    'number too large for Python': b'{"kind": "train", "step": 5, "loss": 1' + b'0' * 5000 + b'}',
    'nested without end': b'[' * 100_000,
}


@pytest.fixture
def path(tmp_path):
    return epath.Path(tmp_path / 'metrics.jsonl')


@pytest.mark.parametrize('damaged', DAMAGED.values(), ids=DAMAGED)
def test_damaged_line_is_left_out_and_counted(damaged, path, capsys):
    path.write_bytes(b'\n'.join([LINES[0], damaged, LINES[1], LINES[2], b'']))
    assert read_metrics(path) == ROWS
    line = 'WARNING: {}: 1 of 4 lines cannot be read and are left out, first line 2\n'
    assert capsys.readouterr() == ('', line.format(path))


def test_all_that_is_damaged_makes_one_line(path, capsys):
    path.write_bytes(b'\n'.join([*DAMAGED.values(), LINES[2]]))
    assert read_metrics(path) == ROWS[2:]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f': {len(DAMAGED)} of {len(DAMAGED) + 1} lines cannot be read and are left out, first line 1')


@pytest.mark.parametrize('content', [b'', b'\n\n', b'\xef\xbb\xbf' + LINES[0] + b'\r\n\r\n'])
def test_empty_lines_and_the_marks_of_other_editors_are_no_damage(content, path, capsys):
    path.write_bytes(content)
    assert read_metrics(path) == (ROWS[:1] if content.strip() else [])
    assert capsys.readouterr() == ('', '')


def test_metrics_that_were_not_finite_are_none(path):
    path.write_text('{"kind": "train", "step": 5, "loss": null, "a": NaN, "b": -Infinity, "c": 1e999, "d": 0}\n')
    assert read_metrics(path) == [{'kind': 'train', 'step': 5, 'loss': None, 'a': None, 'b': None, 'c': None, 'd': 0}]


def test_run_goes_on_and_keeps_the_damaged_file_once(path, tmp_path, capsys):
    content = b'\n'.join([LINES[0], bytes(20), LINES[1], LINES[2], LINES[2][:30]])
    path.write_bytes(content)

    def go_on():
        progress = Progress(
            epath.Path(tmp_path), measures=ClassificationTask, total_steps=20, batch_size=8, start_step=5
        )
        progress.close()
        return progress.timing

    timing = go_on()
    assert (timing.starts, timing.seconds > 9.0) == (4, True)  # of the row behind the checkpoint, too
    kept = tmp_path / 'metrics.damaged.jsonl'
    assert kept.read_bytes() == content
    assert capsys.readouterr().err == (
        f'WARNING: {path}: 2 of 5 lines cannot be read and are left out, first line 2; '
        f'the file as it was is kept as {kept.name}\n'
    )
    assert [json.loads(line) for line in path.read_text().splitlines()] == ROWS
    go_on()
    assert capsys.readouterr().err == ''
    path.write_bytes(b'damaged again')
    go_on()
    assert (kept.read_bytes(), (tmp_path / 'metrics.damaged.2.jsonl').read_bytes()) == (content, b'damaged again')
    assert sorted(file.name for file in tmp_path.glob('metrics*')) == [
        'metrics.damaged.2.jsonl',
        'metrics.damaged.jsonl',
        'metrics.jsonl',
    ]


def test_folder_in_its_place_is_one_line(path):
    path.mkdir()
    with pytest.raises(UserError, match=r'metrics\.jsonl cannot be read: Is a directory\.'):
        read_metrics(path)


@pytest.mark.parametrize(
    'rows', [[], ROWS, [{'kind': 'train', 'step': 5, 'loss': None, 'accuracy': None}], [{'kind': 'eval', 'step': 5}]]
)
def test_curves_are_drawn_of_whatever_rows_there_are(rows, path):
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    assert draw_curves([Curves('', read_metrics(path))], ClassificationTask, 'run').startswith(b'\x89PNG')
