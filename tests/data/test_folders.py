"""How image folders are laid out: splits and classes by any usual name, and what is no part of the data set."""

import os
import shutil
import unicodedata

import numpy as np
import pytest
from photos import photo
from PIL import Image

from mobilenets_jax.data import Layout, create_dataset
from mobilenets_jax.data.folders import read_image_folder
from mobilenets_jax.data.prepare import prepare
from mobilenets_jax.errors import UserError


def fill(root, *files):
    """Writes images; the red of each is its number."""
    for number, file in enumerate(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8), (number, 0, 0)).save(path, format='png')


def read(root, train_split='', eval_split=''):
    """Class names, and the files of the splits with their labels, as paths within `root`."""
    folder = read_image_folder(str(root), train_split, eval_split)
    splits = [
        None
        if files is None
        else [(os.path.relpath(path, root), label) for path, label in zip(*files[:2], strict=True)]
        for files in (folder.train, folder.evaluation)
    ]
    return folder.class_names, *splits


@pytest.mark.parametrize(
    ('folders', 'train', 'evaluation'),
    [
        (('train', 'val'), 'train', 'val'),
        (('train', 'validation'), 'train', 'validation'),
        (('train', 'test'), 'train', 'test'),
        (('train', 'valid', 'test'), 'train', 'valid'),
        (('Train', 'Test'), 'Train', 'Test'),
        (('TRAINING', 'Testing'), 'TRAINING', 'Testing'),
        (('train', 'dev'), 'train', 'dev'),
        (('valid', 'test'), None, 'valid'),
        (('Test',), None, 'Test'),
    ],
)
def test_names_of_splits(tmp_path, folders, train, evaluation):
    fill(tmp_path, *(f'{folder}/{name}/x.png' for folder in folders for name in 'ab'))
    names, *splits = read(tmp_path)
    assert names == ['a', 'b']
    for files, folder in zip(splits, (train, evaluation), strict=True):
        assert files == (folder and [(f'{folder}/a/x.png', 0), (f'{folder}/b/x.png', 1)])


def test_two_spellings_of_a_split_are_not_chosen_from(tmp_path):
    fill(tmp_path, *(f'{split}/{name}/x.png' for split in ('train', 'val', 'valid') for name in 'ab'))
    message = f'{tmp_path} has val and valid, spellings of one split: data.eval_split says which one is meant.'
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value) == message
    assert read(tmp_path, eval_split='valid')[2][0] == ('valid/a/x.png', 0)
    with pytest.raises(UserError, match='has val and valid, spellings of one split: only one may stay.$'):
        prepare(str(tmp_path), str(tmp_path / 'out'), file_format='tfrecord', num_shards=1, report=print)
    shutil.copytree(tmp_path / 'train', tmp_path / 'Train')
    with pytest.raises(UserError, match='has Train and train, .* data.train_split says which one is meant.$'):
        read(tmp_path, eval_split='valid')
    assert read(tmp_path, 'Train', 'valid')[1][0] == ('Train/a/x.png', 0)


def test_splits_can_be_any_folders(tmp_path):
    fill(tmp_path, *(f'{split}/{name}/x.png' for split in ('fold1', 'Fold2', 'val') for name in 'ab'))
    _, train, evaluation = read(tmp_path, 'fold1', 'fold2')
    assert (train[0], evaluation[0]) == (('fold1/a/x.png', 0), ('Fold2/a/x.png', 0))
    with pytest.raises(UserError, match=r"^data.train_split='train\[:80%\]' is unknown. Known: Fold2, fold1, val.$"):
        read(tmp_path, 'train[:80%]')


@pytest.mark.parametrize('names', [('bicycle', 'bus', 'train'), ('good', 'test', 'val'), ('a', 'b', 'training')])
def test_classes_may_be_called_like_splits(tmp_path, names):
    fill(tmp_path, *(f'{name}/x.png' for name in names))
    assert read(tmp_path) == (list(names), None, [(f'{name}/x.png', label) for label, name in enumerate(names)])


def test_classes_called_like_splits_within_splits(tmp_path):
    fill(tmp_path, *(f'{split}/{name}/x.png' for split in ('train', 'test') for name in ('bus', 'test', 'train')))
    names, train, _ = read(tmp_path)
    assert names == ['bus', 'test', 'train'] and train[2] == ('train/train/x.png', 2)


def test_class_called_like_a_split_may_have_inner_folders(tmp_path):
    fill(tmp_path, 'bus/x.png', 'train/x.png', 'train/inner/x.png')
    assert read(tmp_path)[2] == [('bus/x.png', 0), ('train/inner/x.png', 1), ('train/x.png', 1)]


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        (
            ('train/a/x.png', 'train/b/x.png', 'val/a/x.png', 'val/stray.png'),
            'ROOT/val has folders of classes and images',
        ),
        (
            ('train/a/x.png', 'train/stray.png', 'test/b/x.png', 'test/y.png'),
            'ROOT/test has folders of classes and images',
        ),
        (('train/x.png', 'test/x.png'), 'ROOT/test has images, but no folders of classes.'),
        (('train/a/x.png', 'train/b/x.png', 'test/x.png'), "data.dir='ROOT' has no evaluation split with folders of"),
    ],
)
def test_splits_without_classes_or_with_images_beside_them_are_refused(tmp_path, files, message):
    fill(tmp_path, *files)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert message.replace('ROOT', str(tmp_path)) in str(error.value)


def test_folders_beside_the_splits_are_named(tmp_path, capsys):
    fill(tmp_path, *(f'{split}/{name}/x.png' for split in ('train', 'val', 'extra') for name in 'ab'), 'test/x.png')
    (tmp_path / '.cache').mkdir()
    read(tmp_path)
    line = f'{tmp_path}: left out, since they are no splits with folders of classes: extra, test\n'
    assert capsys.readouterr().err == line
    prepare(str(tmp_path), str(tmp_path / '.out'), file_format='tfrecord', num_shards=1, report=print)
    captured = capsys.readouterr()
    assert captured.err == line and [text.split(':')[0] for text in captured.out.splitlines()] == ['train', 'val']
    read(tmp_path, eval_split='extra')
    assert capsys.readouterr().err.endswith(': test\n')


SUFFIXES = ('jpg', 'JPG', 'jpeg', 'jfif', 'png', 'webp', 'bmp', 'gif', 'tif', 'TIFF', 'ppm', 'pgm')


def test_every_suffix_and_depth_is_found_and_the_rest_counted(tmp_path, capsys):
    for split in ('train', 'val'):
        fill(tmp_path, *(f'{split}/{name}/{i:02}.{suffix}' for name in 'ab' for i, suffix in enumerate(SUFFIXES)))
        fill(tmp_path, f'{split}/a/inner/deep/x.png', f'{split}/b/inner/x.jpg')
        for file in ('notes.txt', 'more.TXT', 'README', '.DS_Store', '._00.jpg'):
            (tmp_path / split / 'b' / 'inner' / file).write_text('no image')
        (tmp_path / split / 'a' / 'x.heic').write_text('no image')
    _, train, evaluation = read(tmp_path)
    expected = sorted(f'train/a/{i:02}.{suffix}' for i, suffix in enumerate(SUFFIXES))
    assert [path for path, label in train if label == 0] == [*expected, 'train/a/inner/deep/x.png']
    assert [path for path, label in evaluation if label == 1][-1] == 'val/b/inner/x.jpg'
    assert len(train) == len(evaluation) == 26
    line = f'{tmp_path}: files that are no part of the data set: 4 .txt, 2 .heic, 2 without a suffix\n'
    for _ in range(2):  # with the index, too
        assert capsys.readouterr().err == line
        read(tmp_path)


def test_images_beside_the_classes_are_counted(tmp_path, capsys):
    fill(tmp_path, 'a/x.png', 'b/x.png', 'cover.jpg')
    assert len(read(tmp_path)[2]) == 2
    assert capsys.readouterr().err == (
        f'{tmp_path}: files that are no part of the data set: 1 images beside the folders of classes\n'
    )


@pytest.mark.parametrize('source', ['image_folder', 'memory_folder', 'records'])
def test_classes_that_are_numbers_are_in_the_order_of_the_numbers(tmp_path, source):
    """Label 10 is folder 10, not folder 8 as in the order of strings."""
    fill(tmp_path, *(f'{split}/{i}/x.png' for split in ('train', 'val') for i in range(12)))
    directory = tmp_path
    if source == 'records':
        directory = tmp_path / '.records'
        prepare(str(tmp_path), str(directory), file_format='array_record', num_shards=2, report=print)
    dataset = create_dataset(source, directory=str(directory), image_size=8, batch_size=12, seed=0)
    assert dataset.class_names == tuple(map(str, range(12)))
    (batch,) = dataset.eval_batches(Layout(0, 1, 1))
    assert np.array_equal(batch['image'][0, :, 0, 0, 0], batch['label'][0] + 12)


def test_mixed_names_are_sorted_as_strings(tmp_path):
    fill(tmp_path, *(f'{name}/x.png' for name in ('10', '9', '9a')))
    assert read(tmp_path)[0] == ['10', '9', '9a']


def test_numbers_with_zeros_in_front_are_classes_of_their_own(tmp_path):
    fill(tmp_path, *(f'{name}/x.png' for name in ('10', '1', '01', '002')))
    assert read(tmp_path)[0] == ['01', '1', '002', '10']


def test_unicode_forms_of_a_name_are_one_class(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, 'é') for form in ('NFC', 'NFD'))
    fill(tmp_path, f'train/{composed}/x.png', 'train/b/x.png', f'val/{decomposed}/x.png', 'val/b/x.png')
    names, train, evaluation = read(tmp_path)
    assert names == ['b', composed]
    assert (train[1], evaluation[1]) == ((f'train/{composed}/x.png', 1), (f'val/{decomposed}/x.png', 1))
    fill(tmp_path, f'val/{composed}/x.png')
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value) == (
        f"data.dir: {tmp_path}/val has two folders of class 'é', in Unicode 'e\\u0301' and '\\xe9'."
    )


def test_records_have_the_names_of_the_folders(tmp_path):
    fill(tmp_path, *(f'{split}/{name}/x.png' for split in ('Training', 'valid', 'Test') for name in 'abc'))
    fill(tmp_path, 'Test/c/y.png')
    directory = tmp_path / '.records'
    prepare(str(tmp_path), str(directory), file_format='tfrecord', num_shards=1, report=print)
    sizes = {'': (3, 3), 'valid': (3, 3), 'test': (3, 4)}
    for eval_split, (num_train, num_eval) in sizes.items():
        choices = {'directory': str(directory), 'eval_split': eval_split, 'image_size': 8, 'batch_size': 4, 'seed': 0}
        dataset = create_dataset('records', **choices)
        assert (dataset.num_train, dataset.num_eval) == (num_train, num_eval)
    assert create_dataset('records', **choices | {'train_split': 'test'}).num_train == 4
    with pytest.raises(UserError, match="^data.train_split='train' is unknown. Known: Test, Training, valid.$"):
        create_dataset('records', **choices | {'train_split': 'train'})


def test_file_names_need_not_be_unicode(tmp_path):
    name = os.fsdecode(b'caf\xe9.png')
    fill(tmp_path, *(f'{split}/{label}/{name}' for split in ('train', 'val') for label in 'ab'))
    prepare(str(tmp_path), str(tmp_path / '.records'), file_format='tfrecord', num_shards=1, report=print)
    for source, directory in (('image_folder', tmp_path), ('records', tmp_path / '.records')):
        dataset = create_dataset(source, directory=str(directory), image_size=8, batch_size=2, seed=0)
        (batch,) = dataset.eval_batches(Layout(0, 1, 1))
        assert sorted(batch['image'][0, :, 0, 0, 0].tolist()) == [2, 3]


def test_photo_of_a_class_may_lie_deep(tmp_path):
    path = tmp_path
    for level in range(60):
        path = path / f'level{level}'
    fill(tmp_path, 'a/x.png')
    deep = tmp_path / 'b' / os.path.relpath(path, tmp_path)
    deep.mkdir(parents=True)
    photo(0).save(deep / 'x.jpg')
    assert read(tmp_path)[2][1] == (os.path.relpath(deep / 'x.jpg', tmp_path), 1)
