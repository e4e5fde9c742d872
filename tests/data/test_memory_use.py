"""A pipeline that has run for twenty epochs holds no more memory than one that has run for three."""

import pathlib

import pytest

from mobilenets_jax.data import Layout, create_dataset

STATUS = pathlib.Path('/proc/self/statm')
PAGE_BYTES = 4096
IMAGE_SIZE = 256


@pytest.mark.skipif(not STATUS.exists(), reason='only Linux tells how much memory is held')
@pytest.mark.parametrize('source', ['image_folder', 'array_record', 'tfrecord'])
def test_memory_stays_flat(source, image_folder, prepared_folders):
    """The 17 epochs in between are 77 MB of pixels."""
    name, directory = ('records', prepared_folders[source]) if source in prepared_folders else (source, image_folder)
    dataset = create_dataset(name, directory=str(directory), image_size=IMAGE_SIZE, batch_size=23, seed=0)
    batches = dataset.train_batches(Layout(0, 1, 1))
    held = []
    for _ in range(20):
        assert next(batches)['image'].nbytes == 23 * IMAGE_SIZE**2 * 3
        held.append(int(STATUS.read_text().split()[1]) * PAGE_BYTES)
    assert max(held[3:]) - held[3] < 20e6
