"""The fingerprint of a split changes with its examples and their order, with nothing else, and says how."""

import json
import shutil

import pytest
from photos import write_class

from mobilenets_jax.data import create_dataset, fingerprint
from mobilenets_jax.data.fingerprint import EVALUATION, TRAIN, difference
from mobilenets_jax.data.prepare import prepare
from mobilenets_jax.errors import UserError


def fingerprints(name, directory='', **options):
    """As a checkpoint keeps them."""
    dataset = create_dataset(name, directory=str(directory), **{'image_size': 32, 'batch_size': 8, 'seed': 0} | options)
    return json.loads(json.dumps(dataset.fingerprints))


@pytest.fixture
def folder(image_folder, tmp_path):
    return shutil.copytree(image_folder, tmp_path / 'copy')


def test_an_image_folder_by_the_names_of_its_images(image_folder, folder):
    before = fingerprints('image_folder', image_folder)
    assert [(part, count) for part, count, _ in before[TRAIN]] == [
        ("class 'ant'", 10), ("class 'bee'", 8), ("class 'cat'", 5)
    ]  # fmt: skip
    assert fingerprints('image_folder', folder, image_size=16, batch_size=2, seed=1) == before
    (folder / 'train' / 'bee' / '205.jpg').rename(folder / 'train' / 'bee' / '299.jpg')
    after = fingerprints('image_folder', folder)
    assert difference(before[TRAIN], after[TRAIN]) == "23 examples, as before; class 'bee' has others"
    assert difference(before[EVALUATION], after[EVALUATION]) == ''
    shutil.move(folder / 'train' / 'ant' / '100.jpg', folder / 'train' / 'cat')
    moved = fingerprints('image_folder', folder)
    assert difference(after[TRAIN], moved[TRAIN]) == "23 examples, as before; class 'ant' has 9, not 10"
    write_class(folder / 'train' / 'dog', 2, 900)
    grown = fingerprints('image_folder', folder)
    assert difference(moved[TRAIN], grown[TRAIN]) == "25 examples, not 23; class 'dog' is new"
    assert difference(grown[TRAIN], moved[TRAIN]) == "23 examples, not 25; class 'dog' is gone"


def test_another_split_has_another_fingerprint(image_folder):
    other = fingerprints('image_folder', image_folder, train_split='val')
    changed = difference(fingerprints('image_folder', image_folder)[TRAIN], other[TRAIN])
    assert changed == "7 examples, not 23; class 'ant' has 3, not 10"


@pytest.mark.parametrize('file_format', ['array_record', 'tfrecord'])
def test_records_by_their_hashes(prepared_folders, image_folder, folder, tmp_path, file_format):
    before = fingerprints('records', prepared_folders[file_format])
    assert [count for _, count, _ in before[TRAIN]] == [5, 5, 5, 4, 4]
    prepare(str(image_folder), str(tmp_path / 'again'), file_format=file_format, num_shards=5, report=print)
    assert fingerprints('records', tmp_path / 'again') == before
    shutil.copy(folder / 'train' / 'ant' / '101.jpg', folder / 'train' / 'ant' / '100.jpg')
    prepare(str(folder), str(tmp_path / 'other'), file_format=file_format, num_shards=5, report=print)
    changed = difference(before[TRAIN], fingerprints('records', tmp_path / 'other')[TRAIN])
    assert changed.startswith('23 examples, as before; shard train-0000') and changed.endswith(' has others')


def test_the_digits_are_the_same_at_every_size():
    assert fingerprints('digits') == fingerprints('digits', image_size=16)
    ((part, count, digest),) = fingerprints('digits')[TRAIN]
    assert (part, count, digest) == ('the digits', 1437, '947c72d6dd085dbd')


def test_the_order_of_the_parts_counts():
    a, b = fingerprint.of_names('a', ['1', '2']), fingerprint.of_names('b', ['1'])
    assert difference([a, b], [b, a]) == '3 examples, as before; their order is another'
    assert fingerprint.of_names('a', ['2', '1']) != a != fingerprint.of_names('a', ['12', ''])


def test_many_parts_become_fewer_and_none_is_lost():
    parts = [fingerprint.of_names(f'class {number}', ['x']) for number in range(2500)]
    few = fingerprint.condensed(parts)
    assert (
        len(few) == 834 and few[0][:2] == ['class 0 to class 2', 3] and few[-1][:2] == ['class 2499 to class 2499', 1]
    )
    for number in (0, 1, 2499):
        changed = [*parts[:number], fingerprint.of_names(f'class {number}', ['y']), *parts[number + 1 :]]
        assert difference(few, fingerprint.condensed(changed)) != ''


def test_a_checkpoint_without_fingerprints_is_resumed(capsys):
    found = {TRAIN: [['a', 1, 'x']], EVALUATION: [['a', 1, 'x']]}
    fingerprint.check_training_data('step 5', None, found, accept=False)
    assert capsys.readouterr().err == (
        'step 5 does not say which training examples it knows: they cannot be compared with those of today\n'
    )
    fingerprint.check_training_data('step 5', found, found, accept=False)
    fingerprint.warn_of_other_evaluation_data('step 5', found, found)
    assert capsys.readouterr().err == ''
    with pytest.raises(UserError, match='^the training data are others than those of step 5: 2 examples, not 1; '):
        fingerprint.check_training_data('step 5', found, {TRAIN: [['a', 2, 'x']]}, accept=False)
