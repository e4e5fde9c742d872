"""Training examples that cannot be read: replaced by the next readable one, reported, counted, capped."""

import shutil

import numpy as np
import pytest
from batches import global_batches, hashes

from mobilenets_jax.data import Layout, create_dataset
from mobilenets_jax.errors import UserError

DAMAGES = {
    'truncated': lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 3]),
    'empty': lambda path: path.write_bytes(b''),
    'no image': lambda path: path.write_text('no image at all'),
}


def make(directory, name='image_folder', **kwargs):
    arguments = {'train_crop': 'resize', 'color_distortion': 'none', 'random_flip': False} | kwargs
    return create_dataset(name, directory=str(directory), image_size=24, batch_size=8, seed=0, **arguments)


@pytest.fixture
def damaged(image_folder, tmp_path):
    """A copy of the folder in which examples 3, 4 and 20 are bad, and the three files."""
    root = shutil.copytree(image_folder, tmp_path / 'copy')
    files = sorted((root / 'train' / 'ant').iterdir())[3:5] + sorted((root / 'train' / 'cat').glob('*.*g'))[2:3]
    for path, damage in zip(files, DAMAGES.values(), strict=True):
        damage(path)
    return root, files


def test_bad_records_are_replaced_reported_and_counted(image_folder, damaged, capsys):
    root, files = damaged
    expected = list(global_batches(lambda _: make(image_folder), count=9))
    actual = list(global_batches(lambda _: make(root, skip_bad_records=3), count=9))
    image_of = {int(i): image for batch in expected for i, image in zip(batch['index'], batch['image'], strict=True)}
    for before, after in zip(expected, actual, strict=True):
        replaced = np.array([{3: 5, 4: 5, 20: 21}.get(int(i), int(i)) for i in before['index']])
        assert np.array_equal(after['index'], replaced)
        assert np.array_equal(after['epoch'], before['epoch'])
        assert np.array_equal(after['image'], np.stack([image_of[i] for i in replaced]))
    lines = capsys.readouterr().err.splitlines()
    reports = [line for line in lines if line.startswith('skipped ')]  # each once in three epochs
    assert [line.split(':')[0] for line in reports] == [f'skipped {n} of at most 3' for n in (1, 2, 3)]
    assert {line.split(' cannot be read')[0].split(': ')[1] for line in reports} == {str(path) for path in files}


def test_replacement_does_not_depend_on_the_layout(damaged):
    root, _ = damaged
    straight, split = (
        hashes(lambda _: make(root, skip_bad_records=3, train_crop='inception'), processes=processes, count=2)
        for processes in (1, 2)
    )
    assert split == straight


def test_one_bad_record_too_many_ends_the_run(damaged):
    root, _ = damaged
    with pytest.raises(UserError, match='cannot be read: .* 2 others were skipped: data.skip_bad_records'):
        list(global_batches(lambda _: make(root, skip_bad_records=2), count=9))


def test_evaluation_skips_nothing(damaged):
    root, _ = damaged
    dataset = make(root, skip_bad_records=3, eval_split='train')
    with pytest.raises(UserError, match='cannot be read'):
        list(dataset.eval_batches(Layout(0, 1, 1)))


@pytest.mark.parametrize('file_format', ['array_record', 'tfrecord'])
def test_records_are_replaced_too(prepared_folders, tmp_path, file_format):
    """The scan of a JPEG is overwritten in place: a wrong checksum in ArrayRecord, which ends a TFRecord shard."""
    root = shutil.copytree(prepared_folders[file_format], tmp_path / 'copy')
    shard = sorted(root.glob('train-*'))[1]
    content = bytearray(shard.read_bytes())
    position = content.index(b'\xff\xda')
    content[position + 40] ^= 1
    shard.write_bytes(content)
    if file_format == 'tfrecord':
        with pytest.raises(UserError, match=f'^{shard} is damaged behind its first'):
            list(global_batches(lambda _: make(root, 'records', skip_bad_records=1), count=9))
        return
    batches = list(global_batches(lambda _: make(root, 'records', skip_bad_records=1), count=9))
    index = np.concatenate([batch['index'] for batch in batches])
    assert len(set(range(23)) - set(index)) == 1 and len(index) == 72


def test_more_than_all_examples_cannot_be_skipped(image_folder):
    with pytest.raises(UserError, match='^data.skip_bad_records=23 leaves no examples.$'):
        make(image_folder, skip_bad_records=23)
