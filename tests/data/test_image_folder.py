"""Image folders: what is found, what is read, and what is refused."""

import os
import shutil

import numpy as np
import pytest
from photos import photo, write_class
from PIL import Image

from mobilenets_jax.data import Layout, create_dataset, order, preprocessing
from mobilenets_jax.data.options import DataOptions, ImageOptions
from mobilenets_jax.errors import UserError

ONE = Layout(0, 1, 1)
NO_EVALUATION_SPLIT = (
    'has no evaluation split with folders of classes. Known: val, valid, validation, dev, test, testing.'
)


def make(directory, batch_size=8, seed=0, **kwargs):
    return create_dataset(
        'image_folder', directory=str(directory), image_size=32, batch_size=batch_size, seed=seed, **kwargs
    )


def take(batches, count):
    """The first batches' rows, joined, without the two leading axes."""
    rows = [{key: value.reshape(-1, *value.shape[2:]) for key, value in next(batches).items()} for _ in range(count)]
    return {key: np.concatenate([batch[key] for batch in rows]) for key in rows[0]}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert value.dtype == second[key].dtype and np.array_equal(value, second[key]), key


def test_dataset_describes_itself(image_folder):
    dataset = make(image_folder)
    assert (dataset.name, dataset.num_classes, dataset.class_names) == ('image_folder', 3, ('ant', 'bee', 'cat'))
    assert (dataset.num_train, dataset.num_eval, dataset.image_size) == (23, 7, 32)


def test_training_images_are_those_of_the_index(image_folder):
    """A row is the file of its index, counted over the sorted classes and names, distorted by its own seed."""
    files = [
        os.path.join(image_folder, 'train', name, file)
        for name in ('ant', 'bee', 'cat')
        for file in sorted(os.listdir(image_folder / 'train' / name))
        if file != 'notes.txt'
    ]
    rows = take(make(image_folder, seed=5).train_batches(ONE), 6)
    epoch, index = (np.concatenate(part) for part in zip(*_rows(23, 8, seed=5, count=6), strict=True))
    assert np.array_equal(rows['epoch'], epoch) and np.array_equal(rows['index'], index)
    assert rows['image'].dtype == np.uint8 and rows['label'].dtype == np.int32
    options = ImageOptions(32)
    for i in range(48):
        assert rows['label'][i] == ['ant', 'bee', 'cat'].index(files[index[i]].split(os.sep)[-2])
        with open(files[index[i]], 'rb') as file:
            seed = preprocessing.example_seed(5, epoch[i], index[i])
            expected = preprocessing.train_image(file.read(), seed, options)
        assert np.abs(rows['image'][i].astype(int) - expected).max() <= 1  # Compiled and eager rounding may differ.


def _rows(n, batch_size, seed, count):
    rows = order.train_rows(n, DataOptions(32, batch_size, seed), ONE)
    return [next(rows) for _ in range(count)]


@pytest.mark.parametrize(('processes', 'devices'), [(1, 8), (2, 2), (4, 1)])
def test_batches_do_not_depend_on_layout_or_threads(image_folder, processes, devices):
    expected = take(make(image_folder).train_batches(ONE), 4)
    parts = [
        take(make(image_folder, num_threads=1 + p).train_batches(Layout(p, processes, devices)), 4)
        for p in range(processes)
    ]
    joined = {  # [processes, batches, rows, ...] -> [batches, processes, rows, ...]
        key: np.stack([part[key].reshape(4, 8 // processes, *part[key].shape[1:]) for part in parts], axis=1).reshape(
            expected[key].shape
        )
        for key in expected
    }
    assert_equal(joined, expected)


@pytest.mark.parametrize('start', [8, 21, 23, 46])
def test_resuming_equals_the_straight_run(image_folder, start):
    straight = take(make(image_folder).train_batches(ONE), 10)
    resumed = take(make(image_folder).train_batches(ONE, start=start), 3)
    assert_equal(resumed, {key: value[start : start + 24] for key, value in straight.items()})


@pytest.mark.parametrize('count', [1, 7, 103])
def test_evaluation_is_exact(tmp_path, count):
    """Every image once, in order and from the right file, with batches larger than the set and idle processes."""
    for class_name in ('class_0', 'class_1'):
        write_class(tmp_path / 'train' / class_name, 1, 0)
    for index in range(count):
        folder = tmp_path / 'test' / f'class_{index % 2}'
        folder.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8), (index, 0, 0)).save(folder / f'{index:03}.png')
    expected = sorted(range(count), key=lambda index: (index % 2, index))
    for processes, devices in [(1, 1), (2, 2), (4, 2)]:
        dataset = make(tmp_path, batch_size=16)
        batches = [list(dataset.eval_batches(Layout(p, processes, devices))) for p in range(processes)]
        rows = [batch for step in zip(*batches, strict=True) for batch in step]
        assert all(batch['image'].shape == (devices, 16 // processes // devices, 32, 32, 3) for batch in rows)
        mask = np.concatenate([batch['mask'].ravel() for batch in rows]) == 1
        red = np.concatenate([batch['image'][..., 0, 0, 0].ravel() for batch in rows])[mask]
        label = np.concatenate([batch['label'].ravel() for batch in rows])[mask]
        assert red.tolist() == expected
        assert label.tolist() == [index % 2 for index in expected]


@pytest.mark.parametrize('eval_crop', ['central_fraction', 'resize_crop'])
def test_evaluation_crop_is_the_one_asked_for(image_folder, eval_crop):
    rows = take(make(image_folder, eval_crop=eval_crop, crop_fraction=0.8).eval_batches(ONE), 1)
    options = ImageOptions(32, eval_crop=eval_crop, crop_fraction=0.8)
    with open(image_folder / 'val' / 'ant' / '150.jpg', 'rb') as file:
        encoded = file.read()
    expected = preprocessing.eval_image(encoded, options)
    assert rows['label'].tolist() == [0, 0, 0, 1, 1, 2, 2, 0]
    assert np.array_equal(rows['image'][0], expected)


def test_device_preprocess_only_normalises(image_folder):
    dataset = make(image_folder, normalization='imagenet')
    rows = take(dataset.train_batches(ONE), 1)
    expected = (rows['image'] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(dataset.device_preprocess(rows, train=True), expected, atol=1e-5)


@pytest.mark.parametrize('processes', [1, 2])
def test_evaluation_examples_have_an_index_and_a_name(processes, image_folder):
    dataset = make(image_folder, batch_size=4)
    for process in range(processes):
        for batch in dataset.eval_batches(Layout(process, processes, 2), with_index=True):
            real = batch['mask'] > 0
            for index, label in zip(batch['index'][real], batch['label'][real], strict=True):
                assert dataset.eval_names[index].split(os.sep)[-2] == dataset.class_names[label]
    assert sorted(dataset.eval_names) == sorted(map(str, (image_folder / 'val').glob('*/*.*')))
    assert 'index' not in next(dataset.eval_batches(ONE))


def test_evaluation_split_can_be_chosen(image_folder):
    assert make(image_folder, eval_split='train').num_eval == 23
    with pytest.raises(UserError, match="^data.eval_split='dev' is unknown. Known: train, val.$"):
        make(image_folder, eval_split='dev')


def test_folder_without_training_split_only_evaluates(image_folder):
    dataset = make(image_folder / 'val')
    assert (dataset.num_train, dataset.num_eval, dataset.class_names) == (0, 7, ('ant', 'bee', 'cat'))
    with pytest.raises(UserError, match="^data.name='image_folder' has no training split"):
        dataset.train_batches(ONE)


def test_batch_that_does_not_divide_is_refused_at_once(image_folder):
    for batches in (make(image_folder).train_batches, make(image_folder).eval_batches):
        with pytest.raises(UserError, match='^batch_size=8 must be divisible by the 3 devices.$'):
            batches(Layout(0, 1, 3))


def remove_train_class(root):
    shutil.rmtree(root / 'train' / 'bee')


def remove_val(root):
    shutil.rmtree(root / 'val')


def empty_class(root):
    for file in (root / 'train' / 'bee').iterdir():
        file.unlink()
    (root / 'train' / 'bee' / 'notes.txt').write_text('no image')


def only_one_class(root):
    for split in ('train', 'val'):
        for name in ('ant', 'bee'):
            shutil.rmtree(root / split / name)


def empty_val(root):
    for name in ('ant', 'bee', 'cat'):
        shutil.rmtree(root / 'val' / name)


def empty_directory(root):
    shutil.rmtree(root / 'train')
    shutil.rmtree(root / 'val')


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (remove_train_class, "data.dir='ROOT': ROOT/val has class 'bee', which train lacks."),
        (remove_val, f"data.dir='ROOT' {NO_EVALUATION_SPLIT}"),
        (
            empty_class,
            'data.dir: ROOT/train/bee has no images '
            '(.jpg, .jpeg, .jfif, .png, .webp, .bmp, .gif, .tif, .tiff, .ppm, .pgm); it has 1 .txt.',
        ),
        (empty_val, f"data.dir='ROOT' {NO_EVALUATION_SPLIT}"),
        (only_one_class, "data.dir='ROOT' must have two classes or more, but has 1."),
        (empty_directory, "data.dir='ROOT' must have two classes or more, but has 0."),
        (shutil.rmtree, 'data.dir: cannot list ROOT: No such file or directory.'),
    ],
)
def test_what_is_missing_is_named_when_the_dataset_is_created(image_folder, tmp_path, damage, message):
    root = tmp_path / 'copy'
    shutil.copytree(image_folder, root)
    damage(root)
    with pytest.raises(UserError) as error:
        make(root)
    assert str(error.value) == message.replace('ROOT', str(root))


def test_directory_must_be_given():
    with pytest.raises(UserError, match="^data.dir='' must name the folder of images.$"):
        make('')


@pytest.mark.parametrize(
    ('damage', 'reason'),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:900]), 'Invalid JPEG'),
        (lambda path: path.write_bytes(b''), 'Input is empty'),
        (lambda path: path.write_text('not an image at all'), 'it is none of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM'),
        (lambda path: path.unlink(), 'No such file'),
    ],
)
@pytest.mark.parametrize('split', ['train', 'val'])
def test_broken_image_is_named(image_folder, tmp_path, split, damage, reason):
    root = tmp_path / 'copy'
    shutil.copytree(image_folder, root)
    broken = sorted((root / split / 'bee').iterdir())[1]
    dataset = make(root)
    damage(broken)
    batches = dataset.train_batches(Layout(0, 1, 1)) if split == 'train' else dataset.eval_batches(Layout(0, 1, 1))
    with pytest.raises(UserError, match=f'^{broken} cannot be read: .*({reason})') as error:
        take(batches, 3)
    assert '\n' not in str(error.value) and '{{' not in str(error.value)


def test_paths_need_not_be_ascii(tmp_path):
    for name in ('ä', 'b c'):
        folder = tmp_path / name
        folder.mkdir()
        photo(0).save(folder / 'é 1.JPEG')
    assert take(make(tmp_path).eval_batches(ONE), 1)['mask'].sum() == 2
