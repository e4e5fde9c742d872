"""`compare`: a table whose numbers are those of the runs' metrics, and a picture with a colour a run."""

import json

import numpy as np
import pytest
from PIL import Image

from mobilenets_jax.__main__ import main


def write_run(workdir, evaluations, model=None, speeds=()):
    workdir.mkdir(parents=True)
    rows = [{'kind': 'eval', 'step': step, 'top1': top1, 'loss': loss} for step, top1, loss in evaluations]
    rows += [
        {'kind': 'train', 'step': step, 'loss': 1.0, 'accuracy': 50.0, 'images_per_second': speed}
        for step, speed in speeds
    ]
    (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    if model is not None:
        (workdir / 'config.json').write_text(json.dumps({'model': {'name': model}}))
    return str(workdir)


def test_the_table_has_the_last_and_the_best_evaluation(tmp_path, capsys):
    one = write_run(tmp_path / 'a' / 'one', [(10, 40.0, 2.0), (20, 60.125, 1.5), (30, 50.0, 1.75)], 'mobilenet_v1')
    two = write_run(tmp_path / 'b' / 'two', [(10, 80.0, 1.0), (20, None, None)], speeds=[(5, 100.0), (25, 300.0)])
    same = write_run(tmp_path / 'b' / 'one', [], speeds=[(7, 42.0)])
    out = tmp_path / 'all.png'
    assert main(['compare', one, two, same, str(tmp_path / 'none'), f'--out={out}']) == 0
    said = capsys.readouterr()
    assert said.err == f'left out 1 of 4, without metrics: {tmp_path}/none\n'
    header, *lines, picture = said.out.splitlines()
    assert header.split() == ['run', 'model', 'step', 'top-1', 'best', 'at', 'step', 'loss', 'images/s']
    assert [line.split() for line in lines] == [
        [one, 'mobilenet_v1', '30', '50.00', '60.12', '20', '1.7500', '-'],
        ['two', '-', '25', '-', '80.00', '10', '-', '300'],
        [same, '-', '7', '-', '-', '-', '-', '42'],
    ]
    assert picture == f'picture: {out}'


def test_every_run_has_a_colour(tmp_path):
    workdirs = [
        write_run(tmp_path / str(number), [(10, 10.0 * number, 1.0), (20, 90.0, 2.0)]) for number in range(1, 4)
    ]
    assert main(['compare', *workdirs, f'--out={tmp_path}/all.png']) == 0
    with Image.open(tmp_path / 'all.png') as image:
        pixels = np.asarray(image.convert('RGB')).reshape(-1, 3)
    for colour in ((31, 119, 180), (255, 127, 14), (44, 160, 44)):  # Matplotlib's first three
        assert (np.abs(pixels.astype(int) - colour).max(axis=1) < 8).sum() > 200


@pytest.mark.parametrize('content', [None, '', '{"kind": "eval"', '[]\n3\n'])
def test_runs_without_metrics_are_one_line(content, tmp_path, capsys):
    if content is not None:
        (tmp_path / 'metrics.jsonl').write_text(content)
    assert main(['compare', str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f'error: none of {tmp_path} has a metrics.jsonl with rows of a run.'
    )


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path, capsys):
    workdir = write_run(tmp_path / 'run', [(1, 2.0, 3.0)])
    assert main(['compare', workdir, f'--out={tmp_path}/none/all.png']) == 2
    assert (
        capsys.readouterr().err
        == f"error: --out='{tmp_path}/none/all.png' cannot be written: No such file or directory.\n"
    )
