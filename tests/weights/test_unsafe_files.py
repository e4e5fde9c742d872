"""Files that would run code, are cut short or lead elsewhere: refused in one line, nothing executed, nothing left."""

import gzip
import io
import os
import pickle
import re
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
import weight_files
from source_arrays import source_arrays

from mobilenets_jax.errors import UserError
from mobilenets_jax.weights import load_pretrained
from mobilenets_jax.weights.readers import errors


class _Touch:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.mkdir, (str(self._path),)


def refused(path, match):
    with pytest.raises(UserError, match=match) as error:
        load_pretrained(str(path))
    assert '\n' not in str(error.value) and str(path) in str(error.value)


@pytest.fixture
def arrays():
    return source_arrays('torchvision', 'mobilenet_v2', 0.25)[1]


@pytest.mark.parametrize('protocol', [2, 4])
def test_a_pickle_runs_nothing(protocol, tmp_path):
    program = pickle.dumps({'weight': _Touch(tmp_path / 'ran')}, protocol)
    with zipfile.ZipFile(tmp_path / 'zip.pth', 'w') as archive:
        archive.writestr('archive/data.pkl', program)
    (tmp_path / 'legacy.pth').write_bytes(program)
    head = b''.join(pickle.dumps(value, 2) for value in (weight_files.LEGACY_MAGIC, 1001, {}))
    (tmp_path / 'inside.pth').write_bytes(head + program + pickle.dumps([], 2))
    for name in ('zip.pth', 'legacy.pth', 'inside.pth'):
        refused(tmp_path / name, r'it would call (posix|nt|os)\.mkdir; only tensors are read')
    assert not (tmp_path / 'ran').exists()
    pickle.loads(program)  # the file is as bad as it should be
    assert (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    'program', [b'cos\nsystem\n(S"id"\ntR.', b'(S"id"\nios\nsystem\n.', b'\x80\x02cos\nsystem\nq\x00.'], ids=str
)
def test_other_ways_to_name_a_function(program, tmp_path):
    with zipfile.ZipFile(tmp_path / 'weights.pth', 'w') as archive:
        archive.writestr('archive/data.pkl', program)
    refused(tmp_path / 'weights.pth', 'cannot be read')


def test_other_objects_next_to_the_weights_are_named_and_not_run(arrays, tmp_path, capsys):
    weight_files.write_pth(
        tmp_path / 'weights.pth', arrays, lambda tensors: {'state_dict': tensors, 'hook': _Touch(tmp_path / 'ran')}
    )
    assert load_pretrained(str(tmp_path / 'weights.pth')).card.model == 'mobilenet_v2'
    assert re.search(r'1 kind of object .* nothing of them was run: (posix|nt|os)\.mkdir', capsys.readouterr().err)
    assert not (tmp_path / 'ran').exists()


def test_a_tensor_that_a_call_would_make_is_refused(arrays, tmp_path):
    weight_files.write_pth(
        tmp_path / 'weights.pth', arrays, lambda tensors: tensors | {'classifier.1.bias': _Touch(tmp_path / 'ran')}
    )
    refused(tmp_path / 'weights.pth', r'to make classifier\.1\.bias, it would call (posix|nt|os)\.mkdir; only tensors')
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    ('program', 'message'),
    [
        (b'(lp0\nQ.', 'it refers to something that is no storage'),
        (b'(U\x07storagecposix\nsystem\nU\x011tQ.', r'it would call posix\.system; only tensors are read'),
        (b'\x80\x02}q\x00U\x05modelh\x00s.', "there is no state dict in it: its keys are 'model'"),  # it holds itself
        (b'\x80\x02]a.', 'its pickle program is damaged'),
        (b'\x80\x02]', 'its pickle program is damaged'),
        (b'\x80\x02\x82\x01.', 'its pickle program uses EXT1, which no known writer does'),
    ],
    ids=['persistent id', 'foreign storage', 'cycle', 'underflow', 'no end', 'extension'],
)
def test_hostile_programs_end_in_one_line(program, message, tmp_path):
    with zipfile.ZipFile(tmp_path / 'weights.pth', 'w') as archive:
        archive.writestr('archive/data.pkl', program)
    refused(tmp_path / 'weights.pth', message)


def test_keys_whose_hash_takes_forever_are_not_hashed(tmp_path):
    doubled = (
        b'\x80\x02}()' + b'2\x86' * 64 + b'K\x01s.'
    )  # a dict with the key ((((...), (...)), ...), ...): 2**64 leaves
    with zipfile.ZipFile(tmp_path / 'weights.pth', 'w') as archive:
        archive.writestr('archive/data.pkl', doubled.replace(b'()', b')'))
    refused(tmp_path / 'weights.pth', 'there is no state dict in it')


def test_one_storage_counts_for_each_of_its_tensors(tmp_path, monkeypatch):
    """Each of the tensors is as large as the file, all together are more than any network."""
    monkeypatch.setattr(errors, 'MAX_WEIGHTS_BYTES', 1 << 20)
    tensor = weight_files._Tensor('0', np.zeros((256, 256), np.float32))
    with zipfile.ZipFile(tmp_path / 'weights.pth', 'w') as archive:
        with archive.open('archive/data.pkl', 'w') as stream:
            weight_files._pickled(stream, {str(number): tensor for number in range(5)})
        archive.writestr('archive/data/0', bytes(256 * 256 * 4))
    refused(tmp_path / 'weights.pth', 'its tensors have more than 1048576 bytes')


@pytest.mark.parametrize('suffix', ['safetensors', 'pth', 'legacy.pth', 'h5'])
def test_truncated_files(suffix, arrays, tmp_path):
    path = tmp_path / f'weights.{suffix}'
    arrays = source_arrays('keras', 'mobilenet_v1', 0.25)[1] if suffix == 'h5' else arrays
    write = {
        'safetensors': weight_files.write_safetensors,
        'pth': weight_files.write_pth,
        'legacy.pth': weight_files.write_legacy_pth,
        'h5': weight_files.write_h5,
    }[suffix]
    write(path, arrays)
    whole = path.read_bytes()
    for part in (0.1, 0.5, 0.99):
        path.write_bytes(whole[: int(part * len(whole))])
        refused(path, 'cannot be read|of no known format')


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    array = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (1 << 20, 1 << 20), (0, 0))

    class _Small:
        size = 1

        def tobytes(self):
            return bytes(4)

    tensor = weight_files._Tensor('0', array)
    tensor.storage.array = _Small()
    with zipfile.ZipFile(tmp_path / 'weights.pth', 'w') as archive:
        with archive.open('archive/data.pkl', 'w') as stream:
            weight_files._pickled(stream, {'weight': tensor})
        archive.writestr('archive/data/0', bytes(4))
    refused(tmp_path / 'weights.pth', 'a tensor reaches beyond its storage')


def test_safetensors_outside_of_the_file(tmp_path):
    path = tmp_path / 'weights.safetensors'
    for entry in (
        '{"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}',
        '{"w": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}',
        '{"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        '{"w": {"dtype": "OBJECT", "shape": [1], "data_offsets": [0, 4]}}',
        '{"w": 3}',
    ):
        path.write_bytes(len(entry).to_bytes(8, 'little') + entry.encode() + bytes(4))
        refused(path, 'cannot be read')


def test_hdf5_links_out_of_the_file(tmp_path):
    with h5py.File(tmp_path / 'secret.h5', 'w') as file:
        file['kernel'] = np.ones(3, np.float32)
    (tmp_path / 'raw').write_bytes(bytes(12))

    def external_link(group):
        group['kernel:0'] = h5py.ExternalLink('secret.h5', '/kernel')

    def external_data(group):
        group.create_dataset('kernel:0', (3,), np.float32, external=[(str(tmp_path / 'raw'), 0, 12)])

    for name, add in (('link.h5', external_link), ('data.h5', external_data)):
        with h5py.File(tmp_path / name, 'w') as file:
            file.attrs['layer_names'] = [b'conv1']
            group = file.create_group('conv1')
            group.attrs['weight_names'] = [b'kernel:0']
            add(group)
        refused(tmp_path / name, 'leads out of the file|no array of its own')


@pytest.mark.parametrize('name', ['../evil.safetensors', '/tmp/evil.safetensors', 'a/../../evil.safetensors'])
def test_archives_with_paths_outside_of_them(name, arrays, tmp_path):
    weight_files.write_safetensors(tmp_path / 'weights.safetensors', arrays)
    with tarfile.open(tmp_path / 'weights.tgz', 'w:gz') as archive:
        archive.add(tmp_path / 'weights.safetensors', 'weights.safetensors')
        info = tarfile.TarInfo(name)
        info.size = 1
        archive.addfile(info, io.BytesIO(b'x'))
    refused(tmp_path / 'weights.tgz', 'leads out of the archive')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['weights.safetensors', 'weights.tgz']


def test_archives_with_links(arrays, tmp_path):
    with tarfile.open(tmp_path / 'weights.tgz', 'w:gz') as archive:
        info = tarfile.TarInfo('weights.h5')
        info.type, info.linkname = tarfile.SYMTYPE, '/etc/passwd'
        archive.addfile(info)
    refused(tmp_path / 'weights.tgz', 'leads out of the archive')


@pytest.mark.parametrize('mode', ['w', 'w:gz'])
def test_archives_that_are_damaged_or_hold_other_things(mode, arrays, tmp_path):
    path = tmp_path / 'archive.tar'
    weight_files.write_safetensors(tmp_path / 'weights.safetensors', arrays)
    with tarfile.open(path, mode) as archive:
        archive.add(tmp_path / 'weights.safetensors', 'weights.safetensors')
    path.write_bytes(path.read_bytes()[:5000])
    refused(path, 'its archive is cut short or damaged')
    with tarfile.open(path, mode) as archive:
        for number in range(8):
            archive.add(__file__, f'file{number}.py')
    refused(path, 'does not hold one set of weights. It holds: file0.py, .*, file4.py and 3 more')


def test_a_plain_archive_is_read(arrays, tmp_path):
    weight_files.write_safetensors(tmp_path / 'weights.safetensors', arrays)
    with tarfile.open(tmp_path / 'weights.tgz', 'w:gz') as archive:
        archive.add(tmp_path / 'weights.safetensors', './folder/weights.safetensors')
    assert load_pretrained(str(tmp_path / 'weights.tgz')).card.model == 'mobilenet_v2'


def test_foreign_archives_are_named(tmp_path):
    for name in ('archive/code/__torch__.py', 'archive/constants.pkl'):
        with zipfile.ZipFile(tmp_path / 'script.pt', 'w') as archive:
            archive.writestr('archive/data.pkl', b'\x80\x02}.')
            archive.writestr(name, b'')
        refused(tmp_path / 'script.pt', r'it is a TorchScript program .*; save model.state_dict\(\) instead')
    with zipfile.ZipFile(tmp_path / 'other.zip', 'w') as archive:
        archive.writestr('notes.txt', b'text')
    refused(
        tmp_path / 'other.zip', 'a zip archive with neither the data.pkl of PyTorch nor the model.weights.h5 of Keras'
    )
    (tmp_path / 'weights.pth.gz').write_bytes(gzip.compress(b'no tar archive' * 100))
    refused(tmp_path / 'weights.pth.gz', 'compressed by gzip and no tar archive')
    (tmp_path / 'short.pth').write_bytes((tmp_path / 'script.pt').read_bytes()[:60])
    refused(tmp_path / 'short.pth', 'a zip archive that was cut short or damaged')


def test_what_is_no_weight_file(tmp_path):
    (tmp_path / 'notes.txt').write_text('these are no weights at all')
    refused(tmp_path / 'notes.txt', 'of no known format')
    refused(tmp_path / 'missing.pth', 'there is no such file')
    with pytest.raises(
        UserError, match=r"weights='torchvision:v9' is no file and no card. Known: torchvision:mobilenet"
    ):
        load_pretrained('torchvision:v9')
