"""Image folders prepared as records: what is written, what is read back, and what is noticed."""

import hashlib
import json
import shutil

import pytest
from batches import global_batches
from photos import write_class

from mobilenets_jax import __main__ as command_line
from mobilenets_jax.data import Layout, create_dataset
from mobilenets_jax.data.prepare import prepare
from mobilenets_jax.errors import UserError

ONE = Layout(0, 1, 1)
FORMATS = ('array_record', 'tfrecord')


def make(directory, name='records', **kwargs):
    return create_dataset(name, directory=str(directory), image_size=24, batch_size=8, seed=0, **kwargs)


def read(dataset, count=9):
    return list(global_batches(lambda _: dataset, count=count))


def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / 'copy')


def shards(folder, split='train'):
    return sorted(folder.glob(f'{split}-*'))


@pytest.mark.parametrize('file_format', FORMATS)
def test_manifest_counts_and_hashes_what_is_there(prepared_folders, file_format):
    folder = prepared_folders[file_format]
    manifest = json.loads((folder / 'manifest.json').read_text())
    assert manifest['class_names'] == ['ant', 'bee', 'cat'] and manifest['file_format'] == file_format
    assert [shard['num_examples'] for shard in manifest['splits']['train']] == [5, 5, 5, 4, 4]
    assert [shard['num_examples'] for shard in manifest['splits']['val']] == [2, 2, 1, 1, 1]
    for split in ('train', 'val'):
        assert [shard['file'] for shard in manifest['splits'][split]] == [path.name for path in shards(folder, split)]
        for shard in manifest['splits'][split]:
            content = (folder / shard['file']).read_bytes()
            assert len(content) == shard['num_bytes'] and hashlib.sha256(content).hexdigest() == shard['sha256']


@pytest.mark.parametrize('file_format', FORMATS)
def test_records_hold_the_images_of_the_folder(image_folder, prepared_folders, file_format):
    """The evaluation pixels and labels are those of the folder, in another order."""
    pixels = {}
    for name, directory in (('image_folder', image_folder), ('records', prepared_folders[file_format])):
        dataset = make(directory, name, eval_split='train')
        assert (dataset.num_train, dataset.num_eval, dataset.class_names) == (23, 23, ('ant', 'bee', 'cat'))
        batches = list(dataset.eval_batches(ONE))
        rows = [(b['image'][0, i].tobytes(), b['label'][0, i]) for b in batches for i in range(8) if b['mask'][0, i]]
        pixels[name] = sorted(rows)
    assert pixels['records'] == pixels['image_folder']


def test_training_images_are_in_a_random_order(prepared_folders):
    labels = [list(b['label'][0]) for b in make(prepared_folders['tfrecord'], eval_split='train').eval_batches(ONE)]
    assert labels[0] != sorted(labels[0])


def test_command_prepares_and_verifies(image_folder, tmp_path, capsys):
    target = tmp_path / 'records'
    arguments = ['prepare', str(image_folder), str(target), '--format=tfrecord', '--shards=2']
    assert command_line.main(arguments) == 0
    assert capsys.readouterr().out == (
        'train: 23 images of 3 classes in 2 shards\nval: 7 images of 3 classes in 2 shards\n'
    )
    assert command_line.main(['verify', str(target)]) == 0
    assert '23 examples in 2 shards are unchanged' in capsys.readouterr().out
    assert command_line.main(arguments) == 2
    assert capsys.readouterr().err == f"error: DST='{target}' is a prepared data set already.\n"
    shard = shards(target)[1]
    content = bytearray(shard.read_bytes())
    content[-100] ^= 1
    shard.write_bytes(content)
    assert command_line.main(['verify', str(target)]) == 2
    assert capsys.readouterr().err == f'error: {shard} has changed since it was written: its SHA-256 is another.\n'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'file_format': 'webdataset'}, "--format='webdataset' is unknown. Known: array_record, tfrecord."),
        ({'num_shards': 0}, '--shards=0 must be positive.'),
    ],
)
def test_wrong_arguments(image_folder, tmp_path, arguments, message):
    arguments = {'file_format': 'tfrecord', 'num_shards': 2, 'report': print} | arguments
    with pytest.raises(UserError) as error:
        prepare(str(image_folder), str(tmp_path), **arguments)
    assert str(error.value) == message


def test_folder_without_splits_is_refused(image_folder, tmp_path):
    source = image_folder / 'train'
    with pytest.raises(UserError, match=f"^SRC='{source}' has no split with folders of classes. Known: train, "):
        prepare(str(source), str(tmp_path), file_format='tfrecord', num_shards=2, report=print)


def test_broken_image_is_named_when_it_is_prepared(tmp_path):
    write_class(tmp_path / 'train' / 'a', 3, 0)
    write_class(tmp_path / 'train' / 'b', 3, 0)
    broken = tmp_path / 'train' / 'b' / '001.jpg'
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(UserError, match=f'^{broken} cannot be read: '):
        prepare(str(tmp_path), str(tmp_path / 'x'), file_format='array_record', num_shards=2, report=print)
    with pytest.raises(UserError, match='has no manifest.json; `python -m mobilenets_jax prepare'):
        make(tmp_path / 'x')


@pytest.mark.parametrize('file_format', FORMATS)
@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda path: path.unlink(), 'SHARD cannot be read: No such file or directory.'),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), 'SHARD has ACTUAL bytes, but should have EXPECTED.'),
        (lambda path: path.write_bytes(b''), 'SHARD has 0 bytes, but should have EXPECTED.'),
    ],
)
def test_missing_or_truncated_shard_is_named_at_the_start(prepared_folders, tmp_path, file_format, damage, message):
    folder = copy(prepared_folders[file_format], tmp_path)
    shard = shards(folder)[2]
    size = shard.stat().st_size
    damage(shard)
    with pytest.raises(UserError) as error:
        make(folder)
    expected = message.replace('SHARD', str(shard)).replace('ACTUAL', str(size - 9)).replace('EXPECTED', str(size))
    assert str(error.value) == expected


@pytest.mark.parametrize('file_format', FORMATS)
def test_wrong_count_is_named(prepared_folders, tmp_path, file_format):
    folder = copy(prepared_folders[file_format], tmp_path)
    manifest = json.loads((folder / 'manifest.json').read_text())
    manifest['splits']['train'][1]['num_examples'] += 1
    (folder / 'manifest.json').write_text(json.dumps(manifest))
    with pytest.raises(UserError) as error:
        read(make(folder))
    assert str(error.value) == f'{shards(folder)[1]} holds 5 records, but should hold 6.'


def flip_in_image(path, number=0):
    """Flips a bit of the `number`th JPEG's pixels, so that only a checksum can tell."""
    content = bytearray(path.read_bytes())
    position = -1
    for _ in range(number + 1):
        position = content.index(b'\xff\xda', position + 1)  # the start of a scan
    content[position + 40] ^= 1
    path.write_bytes(content)


def test_flipped_bit_in_a_tfrecord_is_named(prepared_folders, tmp_path):
    folder = copy(prepared_folders['tfrecord'], tmp_path)
    flip_in_image(shards(folder)[3], 2)
    with pytest.raises(UserError, match=f'^{shards(folder)[3]} is damaged behind its first [23] of 4 records.$'):
        read(make(folder))


def test_flipped_bit_in_an_array_record_is_named(prepared_folders, tmp_path):
    folder = copy(prepared_folders['array_record'], tmp_path)
    flip_in_image(shards(folder)[3])
    with pytest.raises(UserError, match=rf'^{shards(folder)[3]} record \d \(example 1\d\) cannot be read: '):
        read(make(folder))


@pytest.mark.parametrize('file_format', FORMATS)
def test_label_out_of_range_is_named(prepared_folders, tmp_path, file_format):
    folder = copy(prepared_folders[file_format], tmp_path)
    manifest = json.loads((folder / 'manifest.json').read_text())
    manifest['class_names'] = manifest['class_names'][:2]
    (folder / 'manifest.json').write_text(json.dumps(manifest))
    message = r'record \d \(example \d+\) cannot be read: .*\[its label\] \[2\] \[is not in 0 .. 1\]'
    with pytest.raises(UserError, match=message):
        read(make(folder))


SHARD = {'file': 'train-0', 'num_examples': 1, 'num_bytes': 3, 'sha256': 'ab'}
MANIFEST = {'version': 1, 'file_format': 'tfrecord', 'class_names': ['a', 'b'], 'splits': {'train': [SHARD]}}


def manifest_with(**fields):
    return json.dumps(MANIFEST | fields).encode()


def shard_with(**fields):
    return manifest_with(splits={'train': [SHARD, SHARD | fields]})


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'{}', " is no manifest of prepared records: it lacks 'version'."),
        (b'[]', '=[] is no part of a manifest of prepared records.'),
        (b'no json', ' is no manifest of prepared records: Expecting value: line 1 column 1 (char 0).'),
        (manifest_with()[:-6], ' is no manifest of prepared records: Unterminated string starting at: line 1 column '),
        (b'\xff\xfe{', ' is no manifest of prepared records: '),
        (b'[' * 100_000, ' is no manifest of prepared records: maximum recursion depth exceeded'),
        (manifest_with(version=2), ': version=2 is not 1.'),
        (manifest_with(more=0), " is no manifest of prepared records: it has 'more'."),
        (manifest_with(file_format=['tfrecord']), ": file_format=['tfrecord'] is none of array_record, tfrecord."),
        (manifest_with(class_names='ab'), ": class_names='ab' is no list of different names."),
        (manifest_with(class_names=['a', 'a']), ": class_names=['a', 'a'] is no list of different names."),
        (manifest_with(splits=[]), ': splits=[] holds no splits.'),
        (manifest_with(splits={'train': {}}), ': splits.train={} is no list of shards.'),
        (manifest_with(splits={'train': [7]}), ': splits.train[0]=7 is no part of a manifest of prepared records.'),
        (shard_with(num_examples='1'), ": splits.train[1].num_examples='1' is not a positive whole number."),
        (shard_with(num_examples=True), ': splits.train[1].num_examples=True is not a positive whole number.'),
        (shard_with(num_bytes=-1), ': splits.train[1].num_bytes=-1 is not a whole number.'),
        (shard_with(file='../../other'), ": splits.train[1].file='../../other' is not a name of a file."),
        (shard_with(sha256=None), ': splits.train[1].sha256=None is not a hash.'),
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused_by_its_place(tmp_path, content, message):
    path = tmp_path / 'manifest.json'
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        make(tmp_path)
    assert str(error.value).startswith(f'{path}{message}') and '\n' not in str(error.value)


def test_a_manifest_that_cannot_be_read_is_not_called_missing(tmp_path):
    (tmp_path / 'manifest.json').mkdir()
    with pytest.raises(UserError, match=f'^{tmp_path}/manifest.json cannot be read: Is a directory.$'):
        make(tmp_path)


def test_array_records_in_a_bucket_are_refused():
    from mobilenets_jax.data.array_records import ArrayRecords

    with pytest.raises(UserError, match='^gs://bucket/x: ArrayRecord is read from local disks and mounted buckets'):
        ArrayRecords(['gs://bucket/x'], [1])
