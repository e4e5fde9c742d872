"""Where weights may be: local and in a bucket, a file or a run, and one line where there are none."""

import json
import sys

import numpy as np
import pytest
import weight_files
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem
from source_arrays import source_arrays

from mobilenets_jax.checkpoints import CheckpointManager, locate
from mobilenets_jax.errors import UserError
from mobilenets_jax.identity import Identity, network_fields
from mobilenets_jax.trees import named_leaves
from mobilenets_jax.weights import load_pretrained, remote
from mobilenets_jax.weights.init_from import starting_point
from mobilenets_jax.weights.remote import local_file

RUN_CONFIG = {'model': {'name': 'mobilenet_v1', 'width_multiplier': 0.5}, 'data': {'normalization': 'unit'}}


class Bucket(MemoryFileSystem):
    """In memory, in the place of Google's."""

    store, pseudo_dirs = {}, ['']

    @classmethod
    def _strip_protocol(cls, path):
        return f'/{path.removeprefix("gs://").strip("/")}'


@pytest.fixture
def bucket(monkeypatch):
    """A folder in a bucket, empty at first."""
    monkeypatch.setattr(epath.gpath, '_is_tf_installed', lambda: False)  # else TensorFlow reads buckets
    monkeypatch.setitem(sys.modules['fsspec.registry']._registry, 'gcs', Bucket)
    Bucket.store.clear()
    Bucket.clear_instance_cache()
    epath.backend.fsspec_backend._get_filesystem.cache_clear()
    yield epath.Path('gs://bucket/weights')
    epath.backend.fsspec_backend._get_filesystem.cache_clear()


@pytest.fixture(scope='module')
def arrays():
    return source_arrays('timm', 'mobilenet_v2', 0.1)[1]


@pytest.fixture
def weights(arrays, tmp_path):
    path = tmp_path / 'w.safetensors'
    weight_files.write_safetensors(path, arrays)
    return path


def test_file_in_a_bucket_is_read_like_a_local_one_with_the_files_next_to_it(bucket, weights, capsys):
    """The config of timm's hub states the size of the images, which nothing else does."""
    config = {'architecture': 'mobilenetv2_010', 'pretrained_cfg': {'input_size': [3, 160, 160], 'crop_pct': 0.9}}
    (bucket / weights.name).write_bytes(weights.read_bytes())
    (bucket / 'config.json').write_text(json.dumps(config))
    weights.with_name('config.json').write_text(json.dumps(config))
    here, there = load_pretrained(str(weights)), load_pretrained(f'{bucket}/{weights.name}')
    assert (there.card.preprocessing.image_size, there.card.preprocessing) == (160, here.card.preprocessing)
    expected = named_leaves(here.variables)
    assert all(np.array_equal(leaf, expected[name]) for name, leaf in named_leaves(there.variables).items())
    assert '/tmp' not in capsys.readouterr().err.replace(str(weights), '')
    start = starting_point(f'{bucket}/{weights.name}', {})
    assert (start.fields['model.name'], start.fields['model.width_multiplier']) == ('mobilenet_v2', 0.1)


@pytest.mark.parametrize('name', ['model.ckpt', 'model.ckpt.index'])
def test_checkpoint_of_tensorflow_is_copied_with_all_of_its_parts(name, bucket):
    parts = ['model.ckpt.index', 'model.ckpt.data-00000-of-00002', 'model.ckpt.data-00001-of-00002']
    for part in [*parts, 'model.ckpt.meta', 'model.ckpt-9.index', 'other.data-00000-of-00001']:
        (bucket / part).write_text(part)
    with local_file(f'{bucket}/{name}') as path:
        copied = {file.name: file.read_text() for file in path.parent.iterdir()}
        assert (path.name, copied) == (name, {part: part for part in parts})
    assert not path.parent.exists()


def test_what_a_bucket_lacks_hides_or_damages_is_one_line_that_names_it(bucket, arrays, monkeypatch):
    def line(source):
        with pytest.raises(UserError) as error:
            starting_point(source, {})
        return str(error.value)

    absent, damaged, broken = (f'{bucket}/{name}.safetensors' for name in ('absent', 'damaged', 'broken'))
    assert line(absent) == f"init_from='{absent}': there is no such file or checkpoint."
    epath.Path(damaged).write_bytes(b'PK\x03\x04' + bytes(60))
    assert line(damaged).startswith(f"init_from='{damaged}' cannot be read: it is a zip archive that was cut short")
    (bucket / 'runs' / 'checkpoints').mkdir(parents=True)
    assert line(f'{bucket}/runs') == (
        f"init_from='{bucket}/runs' holds no checkpoint; it must be a workdir, or a file of weights."
    )
    epath.Path(broken).write_bytes(bytes(100))
    monkeypatch.setattr(remote, 'MAX_WEIGHTS_BYTES', 99)
    assert line(broken) == f"init_from='{broken}' has 100 bytes; at most 99 are read."

    def refuse(*arguments, **options):
        raise PermissionError('403\nForbidden')

    monkeypatch.setattr(Bucket, 'info', refuse)
    monkeypatch.setattr(Bucket, 'exists', refuse)
    monkeypatch.setattr(Bucket, 'isdir', refuse)
    assert line(broken) == f"init_from='{broken}' cannot be read: 403 Forbidden."
    with pytest.raises(UserError, match=rf"^weights='{broken}' cannot be read: 403 Forbidden\.$"):
        load_pretrained(broken)


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """Has the folder 'run' with the checkpoints 3 and 5, and the empty folder '7'."""
    home = tmp_path_factory.mktemp('home')
    identity = Identity(fields=network_fields(RUN_CONFIG) | {'num_classes': 2}, class_names=('ant', 'bee'))
    with CheckpointManager(home / 'run' / 'checkpoints', identity=identity) as checkpoints:
        for step in (3, 5):
            state = {'params': {'w': np.full(2, step, np.float32)}, 'batch_stats': {'m': np.zeros(3)}}
            checkpoints.save(step, state, meta={'config': RUN_CONFIG})
    (home / '7').mkdir()
    return home


@pytest.mark.parametrize(
    ('source', 'step'),
    [
        *(('~/run', 5), ('~/run/', 5), ('~/run/checkpoints', 5), ('~/run/checkpoints/', 5)),
        *(('~/run/checkpoints/3', 3), ('~/run/checkpoints/5/', 5)),
    ],
)
def test_run_may_be_named_by_its_workdir_its_checkpoints_or_one_of_them(source, step, home, monkeypatch):
    monkeypatch.setenv('HOME', str(home))
    start = starting_point(source, {})
    assert named_leaves(start.variables)['params/w'].tolist() == [step, step]
    assert (start.fields['model.name'], start.class_names) == ('mobilenet_v1', ('ant', 'bee'))


@pytest.mark.parametrize(
    ('source', 'line'),
    [
        ('~/run/checkpoints/4', r"init_from='.*/home\d+/run/checkpoints/4': there is no such file or checkpoint\."),
        ('~/7', "init_from='~/7' holds no checkpoint; it must be a workdir, or a file of weights."),
        ('~', "init_from='~' holds no checkpoint; it must be a workdir, or a file of weights."),
        ('~/absent', r"init_from='.*/home\d+/absent': there is no such file or checkpoint\."),
        ('torchvision:absent', "init_from='torchvision:absent' is no file and no card. Known: torchvision:.*"),
    ],
)
def test_what_is_no_run_and_no_file_is_one_line(source, line, home, monkeypatch):
    monkeypatch.setenv('HOME', str(home))
    with pytest.raises(UserError, match=f'^{line}$'):
        starting_point(source, {})


def test_files_are_found_from_home_and_notes_name_the_field_of_the_config(weights, monkeypatch, capsys):
    monkeypatch.setenv('HOME', str(weights.parent))
    assert starting_point('~/w.safetensors', {}).fields['model.name'] == 'mobilenet_v2'
    notes = capsys.readouterr().err.splitlines()
    assert [note.partition(': ')[0] for note in notes] == [f"init_from='{weights}'"]
    assert notes[0].endswith('Otherwise set --config.image_size, --config.data.normalization.')


def test_number_is_a_step_only_where_it_is_one(tmp_path):
    """Neither a run that is called 8 nor the folders of a data set's classes."""
    (tmp_path / '8' / 'checkpoints').mkdir(parents=True)
    (tmp_path / 'classes' / '0').mkdir(parents=True)
    (tmp_path / 'steps' / '40' / 'meta').mkdir(parents=True)
    assert locate(tmp_path / '8') == (tmp_path / '8' / 'checkpoints', None)
    assert locate(tmp_path / '8' / 'checkpoints') == (tmp_path / '8' / 'checkpoints', None)
    for name in ('9', 'run/', 'classes', 'classes/0'):
        assert locate(f'{tmp_path}/{name}') == (tmp_path / name / 'checkpoints', None)
    assert locate(tmp_path / 'steps') == (tmp_path / 'steps', None)
    assert locate(f'{tmp_path}/steps/40/') == (tmp_path / 'steps', 40)
