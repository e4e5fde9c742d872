"""The bytes of the batches of three epochs, by source: equal for every layout, thread count, stop and restart."""

import numpy as np
import pytest
from batches import global_batches, hashes

from mobilenets_jax.data import create_dataset

BATCH_SIZE = 8
NUM_BATCHES = 9  # 72 of 3 x 23 = 69 positions
SOURCES = ('image_folder', 'array_record', 'tfrecord')


@pytest.fixture(scope='module', params=SOURCES)
def make(request, image_folder, prepared_folders):
    """A function from a number of threads to the same data set read from each source."""
    name = 'image_folder' if request.param == 'image_folder' else 'records'
    directory = image_folder if name == 'image_folder' else prepared_folders[request.param]

    def make(**kwargs):
        return create_dataset(name, directory=str(directory), image_size=24, batch_size=BATCH_SIZE, seed=3, **kwargs)

    return make


@pytest.fixture(scope='module')
def expected(make):
    return hashes(lambda _: make(), count=NUM_BATCHES)


def test_every_epoch_holds_every_example_once(make):
    rows = list(global_batches(lambda _: make(), count=NUM_BATCHES))
    epoch, index = (np.concatenate([batch[key] for batch in rows]) for key in ('epoch', 'index'))
    for value in range(3):
        assert sorted(index[epoch == value]) == list(range(23))


@pytest.mark.parametrize(('processes', 'devices'), [(2, 2), (4, 1)])
def test_processes_and_threads_change_no_byte(make, expected, processes, devices):
    actual = hashes(lambda p: make(num_threads=1 + p), processes=processes, devices=devices, count=NUM_BATCHES)
    assert actual == expected


def test_a_stop_at_any_step_and_other_hosts_change_no_byte(make, request):
    expected = hashes(lambda _: make(color_distortion='none'), count=NUM_BATCHES)
    any_step = 'image_folder' in request.node.name  # Setting up a pipeline takes long; ArrayRecord shares its order.
    for step in range(1, NUM_BATCHES) if any_step else (2, 5):
        processes = 1 + step % 2
        resumed = hashes(lambda _: make(color_distortion='none'), processes=processes, start=step * BATCH_SIZE)
        assert resumed == expected[step : step + 1], step


@pytest.mark.parametrize(
    'make', ['image_folder', pytest.param('array_record', marks=pytest.mark.slow), 'tfrecord'], indirect=True
)  # ArrayRecord shares its order with the folder
def test_all_augmentation_depends_on_seed_epoch_and_index_alone(make):
    everything = {
        'train_crop': 'random_resized',
        'color_distortion': 'none',
        'auto_augment': 'randaugment',
        'randaugment_layers': 1,
        'repeated_augmentation': 2,
    }
    batches = list(global_batches(lambda _: make(**everything), count=2))
    halves = [batch['image'].reshape(2, -1, *batch['image'].shape[1:]) for batch in batches]
    for batch, (first, second) in zip(batches, halves, strict=True):
        assert np.array_equal(*batch['index'].reshape(2, 4))
        assert (np.abs(first.astype(int) - second).max(axis=(1, 2, 3)) > 0).all()  # Every copy is another view.
    resumed = list(global_batches(lambda _: make(**everything), processes=2, devices=2, start=BATCH_SIZE))
    for expected, actual in zip(batches[1:], resumed, strict=True):
        assert all(np.array_equal(expected[key], actual[key]) for key in expected)
