"""What a data set says of its examples is what its batches have, and they are the same from version to version."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from mobilenets_jax.data import Layout, create_dataset

ONE = Layout(0, 1, 2)
SOURCES = ('digits', 'memory_folder', 'image_folder', 'records')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Eight images of 16x16 pixels in PNG, whose pixels no decoder can see otherwise, of classes a and b."""
    root = tmp_path_factory.mktemp('folder')
    grid = np.arange(16 * 16 * 3).reshape(16, 16, 3)
    for number in range(8):
        file = root / ('train' if number < 6 else 'val') / 'ab'[number % 2] / f'{number}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(((grid * (2 * number + 1)) % 251).astype(np.uint8)).save(file)
    return root


@pytest.fixture(scope='module')
def records(folder, tmp_path_factory):
    from mobilenets_jax.data.prepare import prepare

    root = tmp_path_factory.mktemp('records')
    prepare(str(folder), str(root), file_format='tfrecord', num_shards=2, report=print)
    return root


def make(source, directory, **choices):
    return create_dataset(source, directory=str(directory), image_size=16, batch_size=4, seed=5, **choices)


@pytest.mark.parametrize('source', SOURCES)
def test_batches_have_the_fields_of_the_signature(source, folder, records):
    dataset = make(source, records if source == 'records' else folder)
    for batches, signature in (
        (dataset.train_batches(ONE), dataset.train_signature),
        (dataset.eval_batches(ONE), dataset.eval_signature),
    ):
        batch = next(batches)
        assert {name: (value.shape, value.dtype) for name, value in batch.items()} == {
            name: ((2, 2, *field.shape), field.dtype) for name, field in signature.items()
        }


@pytest.mark.parametrize('source', ['image_folder', 'memory_folder'])
def test_processes_without_examples_get_as_many_batches(source, folder):
    """Two images to evaluate, in batches of four: the second process has padding alone."""
    dataset = make(source, folder)
    first, second = (list(dataset.eval_batches(Layout(process, 2, 1))) for process in range(2))
    assert len(first) == len(second) == 1
    assert first[0]['mask'].tolist() == [[1, 1]] and second[0]['mask'].tolist() == [[0, 0]]
    assert second[0].keys() == first[0].keys()
    assert all(value.dtype == first[0][name].dtype and not value.any() for name, value in second[0].items())


def test_bytes_of_batches_stay_what_they_were(folder):
    """Order, crop, flip, labels and padding, in whole numbers alone: a run goes on with another version of the code."""
    dataset = make('image_folder', folder, train_crop='resize', color_distortion='none')
    train, evaluation = dataset.train_batches(Layout(0, 1, 1)), dataset.eval_batches(Layout(0, 1, 1))
    digest = hashlib.sha256()
    for batch in (next(train), next(train), next(evaluation)):
        for name in sorted(batch):
            digest.update(f'{name} {batch[name].dtype} {batch[name].shape}'.encode() + batch[name].tobytes())
    assert digest.hexdigest()[:16] == '160ff6c66b4872ce'
