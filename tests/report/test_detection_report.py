"""The report of a detector: each file against the rows that it was made of; and boxes drawn upon images."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from mobilenets_jax.data.annotations import Annotations
from mobilenets_jax.errors import UserError
from mobilenets_jax.report.boxes import COLOURS, paint_boxes
from mobilenets_jax.report.detection import paint_objects, write_report

NAMES = ('ant, red', 'bée', 'none')
ANNOTATIONS = [
    Annotations(
        'a/0.jpg', 7, 100, 200,
        np.array([[10, 20, 50, 80], [0, 0, 100, 200]], np.float32), np.array([0, 1], np.int32),
        np.array([2400, 20000], np.float32), np.array([False, True]), np.array([False, False]),
    ),
    Annotations(
        'b/\udcff.jpg', 9, 50, 50, np.array([[0, 0, 25, 50]], np.float32), np.array([1], np.int32),
        np.array([1250], np.float32), np.array([False]), np.array([False]),
    ),
]  # fmt: skip
ROWS = {
    'boxes': np.array([[[0.1, 0.1, 0.5, 0.4], [0, 0, 1, 1]], [[0, 0, 0, 0], [0, 0, 0, 0]]], np.float32),
    'scores': np.array([[0.875, 0.25], [0, 0]], np.float32),
    'labels': np.array([[0, 3], [-1, -1]], np.int32),  # the network has an output more than there are classes
}


def lines(folder, name):
    return list(csv.reader((folder / name).open(encoding='utf-8', errors='surrogateescape')))


def test_every_file_agrees_with_the_rows(tmp_path):
    write_report(str(tmp_path), ROWS, ANNOTATIONS, NAMES, np.zeros((2, 32, 32, 3), np.uint8))
    assert lines(tmp_path, 'images.csv') == [
        ['image', 'height', 'width', 'objects', 'crowds', 'difficult', 'detections', 'best_score'],
        ['a/0.jpg', '100', '200', '2', '1', '0', '2', '0.8750'],
        ['b/\udcff.jpg', '50', '50', '1', '0', '0', '0', ''],
    ]
    assert lines(tmp_path, 'per_class.csv') == [
        ['class', 'images', 'objects', 'ap', 'ap50', 'ar100', 'voc_ap50'],
        ['ant, red', '1', '1', '100.00', '100.00', '100.00', '100.00'],
        ['bée', '1', '1', '0.00', '0.00', '0.00', '0.00'],
        ['none', '0', '0', '', '', '', ''],
    ]
    assert json.loads((tmp_path / 'detections.json').read_text()) == [
        {'image': 'a/0.jpg', 'image_id': 7, 'class': 'ant, red', 'bbox': [20, 10, 60, 40], 'score': 0.875},
        {'image': 'a/0.jpg', 'image_id': 7, 'class': 'class 3', 'bbox': [0, 0, 200, 100], 'score': 0.25},
    ]
    assert Image.open(tmp_path / 'pictures.png').size == (1000, 1060)


def test_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'detections.json').mkdir()
    with pytest.raises(UserError, match='cannot be written: Is a directory'):
        write_report(str(tmp_path), ROWS, ANNOTATIONS, NAMES, np.zeros((2, 32, 32, 3), np.uint8))


def test_box_has_its_class_colour_on_its_edges_and_nothing_inside():
    image = np.zeros((100, 160, 3), np.uint8)
    painted = paint_boxes(image, np.array([[40, 30, 80, 120]]), ['ant'], np.array([11]))
    colour = list(COLOURS[1])
    assert painted[80, 60].tolist() == painted[60, 30].tolist() == painted[60, 120].tolist() == colour
    assert not painted[60, 40:110].any() and not image.any()
    assert (painted[25:40] == colour).all(axis=-1).any()  # the title is above it


def test_first_box_is_drawn_above_the_others_and_titles_stay_in_the_image():
    box = np.array([[0, 100, 60, 159], [0, 100, 60, 159]], np.float32)
    painted = paint_boxes(np.zeros((100, 160, 3), np.uint8), box, ['best \udcff', 'x' * 99], np.array([2, 3]))
    assert painted.shape == (100, 160, 3)
    assert painted[60, 120].tolist() == list(COLOURS[2])


def test_objects_are_drawn_at_the_size_of_the_picture():
    painted = paint_objects(np.zeros((200, 100, 3), np.uint8), ANNOTATIONS[1], NAMES)  # of 50 x 50
    rows = np.flatnonzero((painted[:, 50] == COLOURS[1]).all(axis=-1))
    assert rows.max() == 100  # half of the height
