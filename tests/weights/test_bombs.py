"""Small files that claim or unpack to gigabytes: refused in one line, before memory for them is asked for.

Each file is read with little more memory than the process has already: whatever allocates what the file claims fails
in another way than by the line that is expected.
"""

import bz2
import contextlib
import gzip
import io
import json
import pathlib
import pickle
import resource
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
import weight_files
from source_arrays import source_arrays

from mobilenets_jax.errors import UserError
from mobilenets_jax.weights import load_pretrained
from mobilenets_jax.weights.readers import pickles

GIB = 1 << 30
LARGE = 16 * GIB
ROOM = 400 << 20  # less than half of the limit, so that not even that much is allocated
LIMIT = 'more than 1073741824 bytes'


@contextlib.contextmanager
def little_memory():
    """Lets the process have `ROOM` more than it has."""
    pages = int(pathlib.Path('/proc/self/statm').read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def refused(path, match, largest=1 << 20):
    """Asserts that a file, which is small, is refused in one line that has `match`."""
    assert path.exists() is False or path.stat().st_size <= largest
    with little_memory(), pytest.raises(UserError, match=match) as error:
        load_pretrained(str(path))
    assert '\n' not in str(error.value) and len(str(error.value)) < 400


@pytest.fixture(autouse=True, scope='module')
def everything_is_imported():
    """TensorFlow alone needs more room than there is later."""
    import tensorflow as tf

    tf.constant(1)
    with pytest.raises(UserError):
        load_pretrained('nothing')


def test_the_room_is_too_small_for_what_is_refused():
    with little_memory(), pytest.raises(MemoryError):
        np.ones(GIB, np.uint8)


def write_keras(path, add, layers=1):
    with h5py.File(path, 'w') as file:
        file.attrs['layer_names'] = [f'conv{number}'.encode() for number in range(layers)]
        for number in range(layers):
            group = file.create_group(f'conv{number}')
            group.attrs['weight_names'] = [b'kernel:0']
            add(group)


@pytest.mark.parametrize(
    ('fields', 'match'),
    [
        ({'chunks': (1 << 20,)}, 'kernel:0 has 17179869184 bytes, of which the file holds 0'),
        ({'chunks': (1 << 20,), 'compression': 'gzip'}, 'kernel:0 is compressed, which Keras does not do'),
        ({'chunks': (1 << 20,), 'fillvalue': 7.0}, 'has 17179869184 bytes, of which the file holds 0'),
        ({'chunks': (1 << 28,), 'compression': 'lzf'}, 'kernel:0 is compressed'),
    ],
    ids=['no values', 'gzip', 'fill values', 'one chunk'],
)
def test_arrays_of_keras_that_are_not_there(fields, match, tmp_path):
    write_keras(
        tmp_path / 'weights.h5', lambda group: group.create_dataset('kernel:0', (LARGE // 4,), np.float32, **fields)
    )
    refused(tmp_path / 'weights.h5', match)


def test_a_compressed_array_of_keras_is_not_unpacked(tmp_path):
    zeros = np.zeros((64 << 20,), np.float32)
    write_keras(
        tmp_path / 'weights.h5',
        lambda group: group.create_dataset('kernel:0', data=zeros, compression='gzip', compression_opts=9),
    )
    refused(tmp_path / 'weights.h5', 'kernel:0 is compressed, which Keras does not do; save the model uncompressed')


def test_one_array_of_keras_shared_by_many_layers(tmp_path):
    def add(group):
        if group.name == '/conv0':
            group['kernel:0'] = np.zeros(1 << 20, np.float32)
        else:
            group['kernel:0'] = group.file['conv0/kernel:0']  # the same

    write_keras(tmp_path / 'weights.h5', add, layers=300)
    refused(tmp_path / 'weights.h5', f'its weights have {LIMIT}', largest=5 << 20)


def test_groups_of_keras_that_lead_to_each_other(tmp_path):
    """Forty levels of two links to one group: a million million paths."""
    with h5py.File(tmp_path / 'weights.weights.h5', 'w') as file:
        group = file.create_group('layers')
        for _ in range(40):
            inner = group.create_group('one')
            group['two'] = inner
            group = inner.create_group('layers')
    refused(tmp_path / 'weights.weights.h5', 'has two places in it')


def test_texts_of_keras_that_are_all_one_text(tmp_path):
    """Each of the names is a reference to a text of the file."""
    with h5py.File(tmp_path / 'weights.h5', 'w') as file:
        file.attrs.create('layer_names', ['x' * 1000] * 4000, dtype=h5py.string_dtype())
    refused(tmp_path / 'weights.h5', f'its layer_names may have {LIMIT}', largest=8 << 20)


def test_members_of_keras_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / 'weights.keras', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('config.json', ' ' * (20 << 20))
        archive.writestr('model.weights.h5', b'x')
    refused(tmp_path / 'weights.keras', r'its config\.json has more than 16777216 bytes')
    with zipfile.ZipFile(tmp_path / 'weights.keras', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('model.weights.h5', b'x')
        archive.getinfo('model.weights.h5').file_size = LARGE  # in the directory at the end, of which readers know it
    refused(tmp_path / 'weights.keras', rf'its model\.weights\.h5 has {LIMIT}')


def test_members_of_pytorch_archives(tmp_path):
    path, data = tmp_path / 'weights.pth', bytes(20 << 20)
    for name in ('archive/byteorder', 'archive/data.pkl', 'archive/data/0'):
        tensor = weight_files._Tensor('0', np.zeros((2, 2), np.float32))
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            if name != 'archive/data.pkl':
                with archive.open(zipfile.ZipInfo('archive/data.pkl'), 'w') as stream:
                    weight_files._pickled(stream, {'weight': tensor})
            archive.writestr(name, data)
        refused(path, f'{name} is compressed, which PyTorch does not do')
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', b'\x80\x02}.' + data)
    refused(path, r'data\.pkl has more than 8388608 bytes', largest=GIB)


def test_a_list_of_files_that_fills_the_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / 'weights.pth', 'w') as archive:
        archive.writestr('archive/data.pkl', b'\x80\x02}.')
        entry = archive.getinfo('archive/data.pkl')
        archive.filelist = [entry] * 300_000
    refused(tmp_path / 'weights.pth', 'its list of files has more than 16777216 bytes', largest=GIB)


@pytest.mark.parametrize('claim', [LARGE, 1 << 29])
def test_a_member_that_claims_more_than_its_archive_has(claim, tmp_path):
    tensor = weight_files._Tensor('0', np.zeros((2, 2), np.float32))
    with zipfile.ZipFile(tmp_path / 'weights.pth', 'w') as archive:
        with archive.open('archive/data.pkl', 'w') as stream:
            weight_files._pickled(stream, {'weight': tensor})
        archive.writestr('archive/data/0', bytes(16))
        info = archive.getinfo('archive/data/0')
        info.file_size = info.compress_size = claim  # in the directory at the end, which is what readers look at
    refused(tmp_path / 'weights.pth', LIMIT if claim == LARGE else 'reaches beyond the end of the file')


@pytest.mark.parametrize(
    ('program', 'match'),
    [
        (b'\x80\x02' + b'}' * (3 << 20) + b'.', 'its pickle program has more than 2000000 instructions'),
        (b'\x80\x02' + (b'U\xff' + bytes(255)) * 40_000 + b'.', 'has more than 8388608 bytes'),
        (
            b'\x80\x02(' + b'K\x01' * 100_000 + b'lq\x00' + b'ctorch\nSize\nh\x00\x85R' * 2000 + b'.',
            'its pickle program copies more than 8388608 bytes',
        ),
    ],
    ids=['many objects', 'long', 'copies'],
)
@pytest.mark.parametrize('legacy', [False, True])
def test_programs_that_fill_the_memory(legacy, program, match, tmp_path):
    path = tmp_path / 'weights.pth'
    if legacy:
        heads = [pickle.dumps(value, 2) for value in (weight_files.LEGACY_MAGIC, 1001, {'little_endian': True})]
        path.write_bytes(b''.join(heads) + program)
    else:
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('archive/data.pkl', program)
    refused(path, match, largest=12 << 20)


def test_modules_that_stand_in_two_places_each(tmp_path):
    """Forty levels of a module whose two children are one module."""

    def build(levels):
        program = b'\x80\x02' + b'cx\nM\n)\x81}(U\x0b_parameters}U\x08_modules}ub' + b'q\x00'
        for level in range(levels):
            children = b'}(U\x01a' + b'h' + bytes([level]) + b'U\x01b' + b'h' + bytes([level]) + b'u'
            program += b'cx\nM\n)\x81}(U\x0b_parameters}U\x08_modules' + children + b'ubq' + bytes([level + 1])
        return program + b'.'

    with zipfile.ZipFile(tmp_path / 'weights.pth', 'w') as archive:
        archive.writestr('archive/data.pkl', build(40))
    refused(tmp_path / 'weights.pth', 'it has more than 100000 modules')


def test_safetensors_that_claim_too_much(tmp_path):
    path = tmp_path / 'weights.safetensors'
    path.write_bytes((1 << 40).to_bytes(8, 'little') + b'{}')
    refused(path, 'the header is longer than the file')
    path.write_bytes((17 << 20).to_bytes(8, 'little') + b'{' + bytes(17 << 20))
    refused(path, 'its header has more than 16777216 bytes', largest=GIB)
    entry = {'dtype': 'F32', 'shape': [1 << 20], 'data_offsets': [0, 4 << 20]}
    header = json.dumps({f'w{number}': entry for number in range(300)}).encode()  # all the same bytes
    path.write_bytes(len(header).to_bytes(8, 'little') + header + bytes(4 << 20))
    refused(path, f'its tensors have {LIMIT}', largest=5 << 20)
    entry = {'dtype': 'F32', 'shape': [1 << 40], 'data_offsets': [0, 4]}
    header = json.dumps({'w': entry}).encode()
    path.write_bytes(len(header).to_bytes(8, 'little') + header + bytes(4))
    refused(path, f'its tensors have {LIMIT}')


def test_files_beyond_the_limit_are_not_read(tmp_path):
    arrays = {'w': np.zeros((2, 2), np.float32)}
    for name, write in (('a.safetensors', weight_files.write_safetensors), ('a.pth', weight_files.write_legacy_pth)):
        write(tmp_path / name, arrays)
        with (tmp_path / name).open('r+b') as file:
            file.truncate(LARGE)  # a hole: it takes no room on the disk
        refused(tmp_path / name, f'it has {LIMIT}', largest=LARGE)
    (tmp_path / 'a.tflite').write_bytes(b'\x1c\0\0\0TFL3')
    with (tmp_path / 'a.tflite').open('r+b') as file:
        file.truncate(LARGE)
    refused(tmp_path / 'a.tflite', f'it has {LIMIT}', largest=LARGE)


def tar_header(name, size, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize('pack', [gzip.compress, bz2.compress, bytes], ids=['gzip', 'bzip2', 'plain'])
@pytest.mark.parametrize(
    ('content', 'match'),
    [
        (tar_header('weights.h5', LARGE) + bytes(4096), f'its archive unpacks to {LIMIT}'),
        (tar_header('x', LARGE, tarfile.XHDTYPE) + bytes(4096), 'its archive has a header of more than 16777216 bytes'),
        (tar_header('x', LARGE, tarfile.GNUTYPE_LONGNAME) + bytes(4096), 'its archive has a header of more than'),
        (tar_header('notes.txt', 0) * 10_001 + bytes(1024), 'its archive has more than 10000 files'),
    ],
    ids=['member', 'pax header', 'long name', 'members'],
)
def test_archives_that_unpack_to_too_much(content, match, pack, tmp_path):
    (tmp_path / 'weights.tgz').write_bytes(pack(content))
    refused(tmp_path / 'weights.tgz', match, largest=6 << 20)


def test_an_archive_in_an_archive_is_not_followed(tmp_path):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode='w:gz') as archive:
        archive.addfile(tarfile.TarInfo('weights.h5'))
    with tarfile.open(tmp_path / 'weights.tar', 'w') as archive:
        info = tarfile.TarInfo('weights.pth')
        info.size = len(inner.getvalue())
        archive.addfile(info, io.BytesIO(inner.getvalue()))
    refused(tmp_path / 'weights.tar', 'it is compressed by gzip and no tar archive')


def test_tensorflow_indices_that_claim_more_than_their_shards(tmp_path):
    import tensorflow as tf
    from tensorflow.core.protobuf import tensor_bundle_pb2  # noqa: F401 - registers the messages

    def save(shape):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            tf.compat.v1.get_variable('w', shape)
            session.run(tf.compat.v1.global_variables_initializer())
            tf.compat.v1.train.Saver().save(session, str(tmp_path / 'model'), write_meta_graph=False)

    save([1 << 18, 4])
    (tmp_path / 'model.data-00000-of-00001').write_bytes(bytes(100))
    with little_memory(), pytest.raises(UserError, match='w has 4194304 bytes, of which the shards hold 100'):
        load_pretrained(str(tmp_path / 'model'))
    with (tmp_path / 'model.data-00000-of-00001').open('r+b') as file:
        file.truncate(LARGE)
    with little_memory(), pytest.raises(UserError, match=f'its shards have {LIMIT}'):
        load_pretrained(str(tmp_path / 'model'))


def test_what_real_checkpoints_hold_is_far_below_the_limits(tmp_path):
    """The largest network of the family with a pickle program of its own size."""
    _, arrays = source_arrays('torchvision', 'mobilenet_v3_large', 1.0)
    weight_files.write_pth(tmp_path / 'weights.pth', arrays)
    with zipfile.ZipFile(tmp_path / 'weights.pth') as archive:
        assert archive.getinfo('archive/data.pkl').file_size < pickles.MAX_PROGRAM_BYTES / 50


def test_parts_of_a_tflite_file_that_are_all_one_part(tmp_path):
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    builder = flatbuffers.Builder(1 << 20)
    schema.BufferStart(builder)
    buffer = schema.BufferEnd(builder)
    builder.StartVector(4, 60_000, 4)
    for _ in range(60_000):
        builder.PrependUOffsetTRelative(buffer)
    buffers = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), b'TFL3')
    (tmp_path / 'a.tflite').write_bytes(bytes(builder.Output()))
    refused(tmp_path / 'a.tflite', 'it has more than 50000 tensors, operators and buffers')


def test_layers_of_a_tflite_file_that_share_their_weights(tmp_path):
    import flatbuffers
    import tflite_files
    from tensorflow.lite.python import schema_py_generated as schema

    path = tmp_path / 'a.tflite'
    tflite_files.write_mobilenet_v1(path)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    graph = model.subgraphs[0]
    kernel = graph.operators[-4].inputs[1]
    content = np.zeros(4 << 20, np.uint8)
    graph.tensors[kernel].shape = np.array([1 << 20, 1, 1, 1], np.int32)
    model.buffers[graph.tensors[kernel].buffer].data = content
    for operator in graph.operators[1:-3]:
        operator.inputs = np.array([operator.inputs[0], kernel, *operator.inputs[2:]], np.int32)
    graph.operators = graph.operators[:1] + graph.operators[1:-3] * 100 + graph.operators[-3:]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b'TFL3')
    path.write_bytes(bytes(builder.Output()))
    refused(path, f'its weights have {LIMIT}', largest=8 << 20)


def test_networks_that_take_huge_images(tmp_path):
    import tflite_files

    tflite_files.write_mobilenet_v1(tmp_path / 'a.tflite', image_size=40_000)
    refused(tmp_path / 'a.tflite', 'it takes images of 40000 px; 2048 px are the most', largest=8 << 20)
