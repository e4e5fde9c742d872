"""Folders of small images in memory: the files' pixels, the augmentation on the device, and what is refused."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from batches import global_batches
from PIL import Image

from mobilenets_jax.data import Layout, create_dataset
from mobilenets_jax.errors import UserError

ONE = Layout(0, 1, 1)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('small')
    generator = np.random.default_rng(0)
    for split, count in (('train', 20), ('test', 7)):
        for number in range(count):
            file = root / split / f'class_{number % 3}' / f'{number:02}.png'
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(1, 256, (12, 12, 3), np.uint8)).save(file)
    return root


def make(folder, **kwargs):
    return create_dataset(
        'memory_folder', **{'directory': str(folder), 'image_size': 12, 'batch_size': 8, 'seed': 0} | kwargs
    )


def test_batches_hold_the_pixels_of_the_files(folder):
    dataset = make(folder)
    assert (dataset.num_train, dataset.num_eval, dataset.class_names) == (20, 7, ('class_0', 'class_1', 'class_2'))
    files = sorted((folder / 'train').glob('*/*'))
    for batch in global_batches(lambda _: dataset, count=5):
        for image, label, index in zip(batch['image'], batch['label'], batch['index'], strict=True):
            assert np.array_equal(image, np.asarray(Image.open(files[index])))
            assert files[index].parent.name == f'class_{label}'
    (batch,) = dataset.eval_batches(ONE)
    expected = [np.asarray(Image.open(file)) for file in sorted((folder / 'test').glob('*/*'))]
    assert list(dataset.eval_names) == [str(file) for file in sorted((folder / 'test').glob('*/*'))]
    assert batch['mask'].sum() == 7 and np.array_equal(batch['image'][0, :7], expected)


def test_images_are_shifted_and_flipped_on_the_device(folder):
    dataset = make(folder, normalization='unit', shift_pixels=2)
    (batch,) = global_batches(lambda _: dataset)
    preprocess = jax.jit(dataset.device_preprocess, static_argnames='train')
    augmented = np.rint(np.asarray(preprocess(batch, train=True)) * 255).astype(np.uint8)
    for image, result in zip(batch['image'], augmented, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
        views = [padded[i : i + 12, j : j + 12] for i in range(5) for j in range(5)]
        assert sum(np.array_equal(result, view) for kept in views for view in (kept, kept[:, ::-1])) == 1
    assert np.array_equal(np.rint(np.asarray(preprocess(batch, train=False)) * 255), batch['image'])
    again = preprocess(batch | {'epoch': batch['epoch'] + 1}, train=True)
    assert not np.array_equal(np.rint(np.asarray(again) * 255), augmented)


def test_image_of_another_size_is_named(folder):
    first = sorted((folder / 'train').glob('*/*'))[0]
    with pytest.raises(UserError, match=f'^image_size=16 is not that of {first}, 12x12.$'):
        make(folder, image_size=16)


def test_what_is_no_image_is_named(folder, tmp_path):
    for name in ('a', 'b'):
        (tmp_path / 'train' / name).mkdir(parents=True)
        (tmp_path / 'train' / name / 'x.jpg').write_text('no image')
    (tmp_path / 'test').symlink_to(tmp_path / 'train')
    with pytest.raises(UserError, match=f'^{tmp_path}/train/a/x.jpg cannot be read: '):
        make(tmp_path)


def test_training_split_is_needed(folder):
    with pytest.raises(UserError, match='has no training split'):
        make(folder / 'test')


def test_other_formats_are_read_without_tensorflow(tmp_path):
    for number, split in enumerate(('train', 'test')):
        for name in ('a', 'b'):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new('RGB', (12, 12), (40 + number, 0, 0)).save(tmp_path / split / name / 'x.jpg', 'bmp')
    code = f"""
import sys
sys.modules['tensorflow'] = None  # Importing it now raises ModuleNotFoundError.
from mobilenets_jax.data import Layout, create_dataset
dataset = create_dataset('memory_folder', directory={str(tmp_path)!r}, image_size=12, batch_size=2, seed=0)
print(next(dataset.eval_batches(Layout(0, 1, 1)))['image'][0, :, 0, 0, 0].tolist())
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert result.stdout == '[41, 41]\n'


def test_a_folder_in_a_bucket_is_the_folder_on_the_disk(folder, bucket):
    for file in folder.rglob('*.png'):
        bucket.write(f'small/{file.relative_to(folder)}', file.read_bytes())
    local, remote = make(folder), make('gs://bucket/small')
    assert remote.fingerprints == local.fingerprints
    for one, other in zip(local.eval_batches(ONE), remote.eval_batches(ONE), strict=True):
        np.testing.assert_array_equal(one['image'], other['image'])
        np.testing.assert_array_equal(one['label'], other['label'])
