"""ReaL's labels go to their images by number, and ImageNet-V2's folders to their labels, however names are sorted."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from configs import base
from mobilenets_jax.config import ConfigView
from mobilenets_jax.data import Layout, create_dataset
from mobilenets_jax.data.real_labels import read_real_labels
from mobilenets_jax.errors import UserError
from mobilenets_jax.evaluation.classification import real_metrics
from mobilenets_jax.experiment import Experiment
from mobilenets_jax.tasks import get_task

IDS = [f'n{10 * label:08}' for label in range(1000)]
LISTS = [[3], [], [7, 999], [0], [1, 2]]


@pytest.fixture
def real_json(tmp_path):
    path = tmp_path / 'real.json'
    path.write_text(json.dumps(LISTS))
    return str(path)


def test_labels_are_found_by_the_number_in_the_name(real_json):
    images = ['/val/n1/ILSVRC2012_val_00000005.JPEG', 'ILSVRC2012_val_00000002.JPEG', 'a/ILSVRC2012_val_00000003.jpg']
    assert read_real_labels(real_json, images, IDS) == [{1, 2}, set(), {7, 999}]


@pytest.mark.parametrize(
    ('content', 'image', 'names', 'said'),
    [
        (LISTS, 'ILSVRC2012_val_00000006.JPEG', IDS, 'has labels of ILSVRC2012_val_00000001 .. 00000005, and none of'),
        (LISTS, 'ILSVRC2012_val_00000000.JPEG', IDS, 'has labels of ILSVRC2012_val_00000001 .. 00000005, and none of'),
        (LISTS, 'photo.jpg', IDS, 'and none of photo.jpg.'),
        (LISTS, 'ILSVRC2012_val_00000002.JPEG', IDS, 'has no label of any evaluation image.'),
        (LISTS, 'ILSVRC2012_val_00000001.JPEG', IDS[:999], 'needs the folders of all 1000 classes'),
        (LISTS, 'ILSVRC2012_val_00000001.JPEG', ['tench', *IDS[1:]], 'needs the folders of all 1000 classes'),
        ([[1000]], 'ILSVRC2012_val_00000001.JPEG', IDS, 'is no list of lists of labels in 0 .. 999.'),
        ([3], 'ILSVRC2012_val_00000001.JPEG', IDS, 'is no list of lists of labels in 0 .. 999.'),
        ({}, 'ILSVRC2012_val_00000001.JPEG', IDS, 'is no list of lists of labels in 0 .. 999.'),
        (None, 'ILSVRC2012_val_00000001.JPEG', IDS, 'is missing.'),
    ],
)
def test_what_does_not_belong_together_is_one_line(content, image, names, said, tmp_path):
    path = tmp_path / 'real.json'
    if content is not None:
        path.write_text(json.dumps(content))
    with pytest.raises(UserError) as raised:
        read_real_labels(str(path), [image], names)
    assert str(raised.value).startswith(f'data.real_labels={str(path)!r} ') and said in str(raised.value)


def test_images_without_labels_do_not_count():
    found = real_metrics(np.array([3, 3, 999, 1, 2]), [frozenset(labels) for labels in LISTS])
    assert found == {'real_top1': 75.0, 'real_count': 4}  # all but the fourth; the second has none


def test_a_folder_of_imagenet_gets_them(real_json, tmp_path):
    """A training image of each of 1000 classes; validation images of three, sorted otherwise than their numbers."""
    pixels = tmp_path / 'pixels.png'
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(pixels)
    validation = {IDS[3]: 5, IDS[7]: 1, IDS[900]: 3}
    files = [f'train/{name}/x.png' for name in IDS]
    files += [f'val/{name}/ILSVRC2012_val_{number:08}.JPEG' for name, number in validation.items()]
    for file in files:
        path = tmp_path / 'imagenet' / file
        path.parent.mkdir(parents=True)
        os.link(pixels, path)
    fields = {'directory': str(tmp_path / 'imagenet'), 'real_labels': real_json, 'batch_size': 8, 'seed': 0}
    dataset = create_dataset('memory_folder', image_size=8, **fields)
    assert dataset.real_labels == [{1, 2}, {3}, {7, 999}]
    sums = {name: 1 for name in ('top1', 'top5', 'loss', 'count')}
    metrics = get_task('classification').to_metrics(dataset, sums, {'predicted': np.array([2, 7, 7])})
    assert (metrics['real_top1'], metrics['real_count']) == (pytest.approx(200 / 3), 3)
    assert create_dataset('image_folder', image_size=8, **fields).real_labels == dataset.real_labels


@pytest.fixture
def numbered(tmp_path):
    """Twelve classes whose names have another order as text; the pixels of each are ten times its label."""
    for label in range(12):
        for split in ('train', 'val'):
            path = tmp_path / split / str(label) / 'x.png'
            path.parent.mkdir(parents=True)
            Image.fromarray(np.full((8, 8, 3), 10 * label, np.uint8)).save(path)
    return tmp_path


def experiment(folder, numbered_classes):
    fields = {'data.name': 'memory_folder', 'data.dir': str(folder), 'data.numbered_classes': numbered_classes}
    fields |= {'image_size': 8, 'batch_size': 16, 'model.name': 'mobilenet_v1', 'model.width_multiplier': 0.25}
    return Experiment(ConfigView(base.get_config().to_dict()).updated(fields))


def test_numbered_folders_stand_for_the_labels_of_a_network_with_names(numbered):
    made = experiment(numbered, True)
    batch = next(made.dataset.eval_batches(Layout(0, 1, 1)))
    real = batch['mask'][0] > 0
    np.testing.assert_array_equal(batch['image'][0][real][:, 0, 0, 0], 10 * batch['label'][0][real])
    stored = {**made.identity.to_json(), 'class_names': [f'n{label:08}' for label in range(12)]}
    made.identity.check('checkpoint 1', stored, {}, exact=False)
    for other, exact in ((experiment(numbered, False), False), (made, True)):  # not asked for; or a run that goes on
        with pytest.raises(UserError, match="class 0 is '0' in data.dir="):
            other.identity.check('checkpoint 1', stored, {}, exact=exact)
    with pytest.raises(UserError, match='num_classes=11'):
        made.identity.check('checkpoint 1', {**stored, 'num_classes': 11}, {}, exact=False)


def test_folders_that_are_not_all_numbers_are_refused(numbered):
    (numbered / 'train' / '11').rename(numbered / 'train' / '12')
    (numbered / 'val' / '11').rename(numbered / 'val' / '12')
    with pytest.raises(UserError) as raised:
        experiment(numbered, True)
    said = "data.numbered_classes=True needs folders named 0 .. 11; it is '12' that is none of them."
    assert str(raised.value) == said
