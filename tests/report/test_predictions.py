"""The report of an evaluation: each file against the rows that it was made of."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from mobilenets_jax.errors import UserError
from mobilenets_jax.report.confusion import draw_confusion
from mobilenets_jax.report.evaluation import prepare_folder
from mobilenets_jax.report.predictions import write_report

ROWS = {
    'label': np.array([0, 1, 2, 0, 1]),
    'predicted': np.array([0, 2, 2, 3, 1]),  # the network has an output more than there are classes
    'probability': np.array([0.5, 0.25, 0.125, 1.0, 0.75], np.float32),
    'top1': np.array([True, False, True, False, True]),
}
NAMES = ('ant, red', 'bée', 'cat', 'dog')


def lines(folder, name):
    return list(csv.reader((folder / name).open(encoding='utf-8', errors='surrogateescape')))


def test_every_file_agrees_with_the_rows(tmp_path):
    images = ['a/0.jpg', 'a/1.jpg', 'b/\udcff.jpg', 'c,d.jpg', 'e.jpg']
    write_report(str(tmp_path), ROWS, NAMES, 5, images)
    assert lines(tmp_path, 'predictions.csv') == [
        ['image', 'label', 'label_name', 'predicted', 'predicted_name', 'probability', 'correct'],
        ['a/0.jpg', '0', 'ant, red', '0', 'ant, red', '0.5', '1'],
        ['a/1.jpg', '1', 'bée', '2', 'cat', '0.25', '0'],
        ['b/\udcff.jpg', '2', 'cat', '2', 'cat', '0.125', '1'],
        ['c,d.jpg', '0', 'ant, red', '3', 'dog', '1', '0'],
        ['e.jpg', '1', 'bée', '1', 'bée', '0.75', '1'],
    ]
    assert b'b/\xff.jpg,2,' in (tmp_path / 'predictions.csv').read_bytes()
    assert lines(tmp_path, 'per_class.csv') == [
        ['class', 'name', 'images', 'correct', 'top1', 'predicted'],
        ['0', 'ant, red', '2', '1', '50', '1'],
        ['1', 'bée', '2', '1', '50', '1'],
        ['2', 'cat', '1', '1', '100', '2'],
        ['3', 'dog', '0', '0', '', '1'],
    ]
    assert lines(tmp_path, 'confusion.csv') == [
        ['label / predicted', *NAMES, 'class 4'],
        ['ant, red', '1', '0', '0', '1', '0'],
        ['bée', '0', '1', '1', '0', '0'],
        ['cat', '0', '0', '1', '0', '0'],
        ['dog', '0', '0', '0', '0', '0'],
    ]
    with Image.open(tmp_path / 'confusion.png') as image:
        assert image.format == 'PNG'


def test_without_names_the_images_are_numbered(tmp_path):
    write_report(str(tmp_path), ROWS, NAMES, 4, None)
    assert [line[0] for line in lines(tmp_path, 'predictions.csv')] == ['image', '0', '1', '2', '3', '4']


@pytest.mark.parametrize('classes', [2, 10, 30, 31, 1000])
def test_every_class_has_its_place_in_the_picture(classes):
    """A network that is always right gives one dark point a class on the diagonal, of a pixel or more."""
    names = [f'$class_{number}\n' for number in range(classes)]
    with Image.open(io.BytesIO(draw_confusion(np.diag(np.full(classes, 3)), names, of='images'))) as image:
        dark = np.asarray(image.convert('RGB')).astype(int)
    blue = (dark[..., 2] > dark[..., 0] + 40) & (dark[..., 0] < 60)
    square = blue[:, : int(0.66 * blue.shape[1])] if classes > 30 else blue  # without the colour bar
    assert square.any(axis=0).sum() >= classes and square.any(axis=1).sum() >= classes


def test_a_folder_that_cannot_be_written_is_said_first(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=r"^--report='.*/file/report' cannot be written: Not a directory\.$"):
        prepare_folder(str(tmp_path / 'file' / 'report'))
    prepare_folder(str(tmp_path / 'new' / 'report'))
    assert not list((tmp_path / 'new' / 'report').iterdir())
