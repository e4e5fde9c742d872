"""`predict --csv`: the rows are what `predict --json` says of each file, for any number of files and batches."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from small_runs import save_run

from mobilenets_jax.__main__ import main
from mobilenets_jax.tasks import prediction_table

CLASSES = tuple('abcdefg')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Seven images of several sizes in folders, a file that is none by its name, and two that are none in truth."""
    folder = tmp_path_factory.mktemp('images')
    generator = np.random.default_rng(0)
    for number, name in enumerate(('b/10.png', 'b/9.png', 'a/x.jpg', 'a/deep/y.PNG', 'top.png', 'b/2.bmp', 'c.webp')):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40 + number, 60, 3), np.uint8)).save(path)
    (folder / 'a' / 'notes.txt').write_text('none')
    (folder / 'a' / 'broken.jpg').write_bytes(b'no image')
    (folder / 'b' / 'empty.png').write_bytes(b'')
    return folder


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('classifier')
    fields = {'model.name': 'mobilenet_v2', 'model.width_multiplier': 0.25, 'image_size': 32}
    save_run(workdir, 'classification', CLASSES, fields)
    return str(workdir)


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('detector')
    fields = {'model.name': 'mobilenet_v2', 'model.width_multiplier': 0.25, 'image_size': (64, 64)}
    save_run(workdir, 'detection', CLASSES, fields)
    return str(workdir)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(prediction_table, 'BATCH_IMAGES', 3)  # nine files: three batches, the last two with padding


def table(folder, *flags):
    path = folder.parent / 'found.csv'
    assert main(['predict', str(folder), f'--csv={path}', *flags]) == 0
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def said_of(images, capsys, *flags):
    capsys.readouterr()
    assert main(['predict', *images, '--json', *flags]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_image_has_its_classes(folder, classifier, capsys):
    rows = table(folder, f'--workdir={classifier}', '--top=2')
    said = capsys.readouterr()
    files = ('a/deep/y.PNG', 'a/x.jpg', 'b/10.png', 'b/2.bmp', 'b/9.png', 'c.webp', 'top.png')
    names = [f'{folder}/{name}' for name in files]
    assert [row['image'] for row in rows] == names
    assert said.out == f'9 images, 7 rows: {folder.parent}/found.csv\n'
    left_out, unreadable = [line for line in said.err.splitlines() if line.startswith('left out')]
    assert left_out == 'left out 1 files that are no images: 1 .txt'
    assert unreadable.startswith(f"left out 2 of 9 images that cannot be read, first: image '{folder}/a/broken.jpg'")
    for row, expected in zip(rows, said_of(names, capsys, f'--workdir={classifier}', '--top=2'), strict=True):
        first, second = expected['classes']
        assert (int(row['class']), row['name']) == (first['class'], first['name'])
        assert (int(row['class_2']), row['name_2']) == (second['class'], second['name'])
        found = [float(row['probability']), float(row['probability_2'])]
        assert found == pytest.approx([first['probability'], second['probability']], rel=1e-4)


def test_one_class_unless_more_are_asked_for(folder, classifier):
    assert list(table(folder, f'--workdir={classifier}')[0]) == ['image', 'class', 'name', 'probability']
    assert len(table(folder, f'--workdir={classifier}', '--top=99')[0]) == 1 + 3 * len(CLASSES)


def test_every_box_is_a_row(folder, detector, capsys):
    flags = (f'--workdir={detector}', '--min_score=0.2', '--top=3')
    rows = table(folder, *flags)
    images = sorted({row['image'] for row in rows})
    assert len(images) == 7
    for expected in said_of(images, capsys, *flags):
        found = [row for row in rows if row['image'] == expected['image']]
        assert len(found) == len(expected['objects']) > 0
        for row, entry in zip(found, expected['objects'], strict=True):
            assert (int(row['class']), row['name']) == (entry['class'], entry['name'])
            assert float(row['score']) == pytest.approx(entry['score'], rel=1e-4)
            sides = [float(row[side]) for side in ('xmin', 'ymin', 'xmax', 'ymax')]
            assert sides == pytest.approx(entry['box'], abs=0.02)


def test_wrong_uses_are_one_line(folder, classifier, tmp_path, capsys):
    broken = tmp_path / 'broken'
    shutil.copytree(folder / 'a', broken, ignore=shutil.ignore_patterns('x.jpg', 'deep', '*.txt'))
    csv_flag, run = f'--csv={tmp_path}/f.csv', f'--workdir={classifier}'
    for arguments, said in (
        ([str(folder), run], f"IMAGE='{folder}' is a folder: that needs --csv=FILE."),
        ([str(broken), csv_flag, run], f"none of 1 images can be read, first: image '{broken}/broken.jpg' cannot be"),
        ([str(folder), f'--csv={tmp_path}/no/f.csv', run], f"--csv='{tmp_path}/no/f.csv' is in no folder that exists."),
        ([str(folder), csv_flag, '--out=x.png', run], "--out='x.png' has no effect with --csv."),
        ([str(folder), csv_flag, '--masks=M', run], "--masks='M' means nothing to a classifier."),
    ):
        assert main(['predict', *arguments]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f'error: {said}')
    assert not (tmp_path / 'f.csv').exists()


def test_segmentation_says_that_it_has_no_table(folder, tmp_path, capsys):
    fields = {'model.name': 'mobilenet_v2', 'model.width_multiplier': 0.25, 'image_size': (64, 64)}
    save_run(tmp_path, 'segmentation', CLASSES, fields)
    assert main(['predict', str(folder / 'top.png'), '--csv=f.csv', f'--workdir={tmp_path}']) == 2
    assert capsys.readouterr().err == "error: --csv='f.csv' is not offered for this task; --json says what is found.\n"
