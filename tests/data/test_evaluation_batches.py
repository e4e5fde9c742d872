"""Whole evaluation batches of real photos, from a folder and from records, against PIL's resize and crop."""

import zipfile

import numpy as np
import pytest
from photos import PHOTOS, resize_crop_pil
from PIL import Image

from mobilenets_jax.data import Layout, create_dataset
from mobilenets_jax.data.prepare import prepare

COUNT = 12


@pytest.mark.skipif(not PHOTOS.exists(), reason=f'{PHOTOS} is not there')
@pytest.mark.parametrize('name', ['image_folder', 'records'])
def test_batches_equal_pil(tmp_path, name):
    files = {}
    with zipfile.ZipFile(PHOTOS) as archive:
        for number, member in enumerate(sorted(archive.namelist())[5::80][:COUNT]):
            file = tmp_path / 'folder' / 'val' / f'class_{number:02}' / 'photo.JPEG'
            file.parent.mkdir(parents=True)
            file.write_bytes(archive.read(member))
            files[number] = file
    directory = tmp_path / 'folder'
    if name == 'records':
        directory = tmp_path / 'records'
        prepare(str(tmp_path / 'folder'), str(directory), file_format='tfrecord', num_shards=3, report=print)
    dataset = create_dataset(
        name, directory=str(directory), image_size=224, batch_size=8, seed=0, eval_crop='resize_crop'
    )
    seen = []
    for batch in dataset.eval_batches(Layout(0, 1, 2)):
        rows = {key: value.reshape(8, *value.shape[2:]) for key, value in batch.items()}
        for image, label in zip(rows['image'][rows['mask'] == 1], rows['label'][rows['mask'] == 1], strict=True):
            expected = resize_crop_pil(Image.open(files[label]).convert('RGB'), 224, 0.875)
            difference = np.abs(image.astype(int) - expected)
            assert difference.max() <= 2 and difference.mean() < 0.05, files[label]
            seen.append(int(label))
    assert sorted(seen) == list(range(COUNT))
