"""What is saved comes back bit for bit, or not at all and with a reason."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from checkpoint_states import FIELDS, IDENTITY, digest, make_state, replicated
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mobilenets_jax.checkpoints import CheckpointManager, verify_manifest, write_manifest
from mobilenets_jax.errors import UserError
from mobilenets_jax.identity import Identity

TARGET = jax.eval_shape(lambda: make_state(0))
DAMAGE = {
    'flip': lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
    'truncate': lambda data: data[:-1],
    'empty': lambda data: b'',
    'delete': None,
}


def open_manager(directory, **options):
    return CheckpointManager(directory, **{'identity': IDENTITY, **options})


def save_steps(directory, steps, **options):
    with open_manager(directory, **options) as manager:
        for step in steps:
            manager.save(step, make_state(step), meta={'position': step * 32})


def damage(path, kind):
    if kind == 'delete':
        path.unlink()
    else:
        path.write_bytes(DAMAGE[kind](path.read_bytes()))


@pytest.fixture(scope='module')
def two_steps(tmp_path_factory):
    """A directory with the intact steps 10 and 20; to be copied, not changed."""
    directory = tmp_path_factory.mktemp('intact')
    save_steps(directory, [10, 20])
    return directory


@pytest.fixture
def copied(two_steps, tmp_path):
    return shutil.copytree(two_steps, tmp_path / 'run')


def files_of(step_dir):
    return [path for path in sorted(step_dir.rglob('*')) if path.is_file()]


def test_round_trip_from_eight_devices_is_bit_exact(tmp_path):
    state = make_state(7)
    with open_manager(tmp_path / 'new' / 'run') as manager:
        assert manager.restore(TARGET) is None
        manager.save(7, replicated(state), meta={'position': (3, 4), 'config': {'lr': 0.1}}, metric=jnp.float32(0.5))
    with open_manager(tmp_path / 'new' / 'run') as manager:
        restored = manager.restore(TARGET)
    assert restored.step == 7
    assert restored.meta == {'position': [3, 4], 'config': {'lr': 0.1}}
    assert jax.tree.structure(restored.state) == jax.tree.structure(state)
    assert {type(leaf) for leaf in jax.tree.leaves(restored.state)} == {np.ndarray}
    assert restored.state.params['stem']['scale'].dtype == jnp.bfloat16
    assert digest(restored.state) == digest(state)
    # As saved on eight devices, so used on two.
    two_devices = NamedSharding(Mesh(jax.devices()[:2], ('batch',)), PartitionSpec())
    assert digest(jax.device_put(restored.state, two_devices)) == digest(state)


def test_host_leaves_keep_their_64_bits(tmp_path):
    state = {'examples_seen': np.int64(2**40 + 1), 'loss': np.float64(0.1), 'epoch': 3, 'list': [np.arange(3), ()]}
    with open_manager(tmp_path) as manager:
        manager.save(1, state, meta={})
        restored = manager.restore(state).state
    assert restored['examples_seen'] == 2**40 + 1
    assert [leaf.dtype.name for leaf in jax.tree.leaves(restored)] == ['int64', 'int64', 'int64', 'float64']
    assert restored['loss'] == 0.1
    assert restored['epoch'] == 3


def test_target_may_be_an_array_tree_and_is_left_alone(two_steps):
    target = make_state(1)
    with open_manager(two_steps) as manager:
        restored = manager.restore(target, step=10)
    assert (restored.step, restored.meta) == (10, {'position': 320})
    assert digest(restored.state) == digest(make_state(10))
    assert digest(target) == digest(make_state(1))


def test_state_may_be_donated_or_overwritten_right_after_save(tmp_path):
    state = replicated({'w': jnp.arange(1_000_000, dtype=jnp.float32)})
    host = {'w': np.arange(1_000_000, dtype=np.float32)}
    expected = digest(host)
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0 - 1, tree), donate_argnums=0)
    with open_manager(tmp_path, keep_last=4) as manager:
        for step in (1, 2):
            manager.save(step, state, meta={})
            overwrite(state)['w'].block_until_ready()
            assert state['w'].is_deleted()
            state = replicated({'w': jnp.arange(1_000_000, dtype=jnp.float32)})
        for step in (3, 4):
            manager.save(step, host, meta={})
            host['w'][:] = -1
            host['w'][:] = -1 if step == 4 else np.arange(1_000_000)
        manager.wait()
        restored = [manager.restore(host, step=step).state for step in (1, 2, 3, 4)]
    assert [digest(state) for state in restored] == [expected] * 4


@pytest.mark.parametrize('kind', DAMAGE)
def test_damage_to_any_file_is_found_and_the_previous_step_restored(kind, two_steps, tmp_path, capfd):
    files = files_of(two_steps / '20')
    assert len(files) >= 10
    for number, original in enumerate(files):
        if not original.read_bytes() and kind != 'delete':
            continue
        directory = shutil.copytree(two_steps, tmp_path / str(number))
        name = original.relative_to(two_steps / '20')
        damage(directory / '20' / name, kind)
        with open_manager(directory, read_only=True) as manager:
            restored = manager.restore(TARGET)
        assert restored.step == 10, name
        assert digest(restored.state) == digest(make_state(10)), name
        warning = capfd.readouterr().err
        assert 'WARNING: checkpoint 20 is damaged (' in warning
        assert '; falling back to 10\n' in warning
        if name.name != 'manifest.json':
            assert f'({name} ' in warning


def test_fallback_warns_of_every_step_it_passes_over(tmp_path, capfd):
    save_steps(tmp_path, [1, 2, 3])
    damage(tmp_path / '3' / 'meta' / 'metadata', 'flip')
    shutil.rmtree(tmp_path / '2' / 'state')
    with open_manager(tmp_path) as manager:
        assert manager.restore(TARGET).step == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith('WARNING')]
    assert lines[0] == 'WARNING: checkpoint 3 is damaged (meta/metadata changed); falling back to 1'
    assert lines[1].startswith('WARNING: checkpoint 2 is damaged (state/')
    assert lines[1].endswith(' more); falling back to 1')
    assert len(lines) == 2


def test_no_intact_step_is_an_error_and_never_a_fresh_start(copied):
    for step in ('10', '20'):
        (copied / step / 'manifest.json').unlink()
    with open_manager(copied) as manager, pytest.raises(UserError) as error:
        manager.restore(TARGET)
    assert str(error.value) == (
        f'every checkpoint in {copied} is damaged: 20 (manifest.json missing); 10 (manifest.json missing). '
        'Restore a copy, or take another workdir.'
    )


def test_requested_step_must_exist_and_be_intact(copied):
    with open_manager(copied) as manager:
        with pytest.raises(UserError, match=r'^step=15 is not in .*/run\. Known: 10, 20\.$'):
            manager.restore(TARGET, step=15)
        damage(copied / '20' / 'meta' / 'metadata', 'flip')
        with pytest.raises(
            UserError, match=r'^checkpoint .*/run/20 is damaged \(meta/metadata changed\)\. Known steps: 10, 20\.$'
        ):
            manager.restore(TARGET, step=20)
    with open_manager(copied.parent / 'empty') as manager, pytest.raises(UserError, match=r'Known: none\.$'):
        manager.restore(TARGET, step=1)


@pytest.mark.parametrize(
    ('other', 'held', 'asked'),
    [
        (
            {'model': 'mobilenet_v2', 'num_classes': 1000},
            'mobilenet_v3_large (num_classes=10)',
            'mobilenet_v2 (num_classes=1000)',
        ),
        (
            {'width_multiplier': 0.75},
            'mobilenet_v3_large (width_multiplier=1.0)',
            'mobilenet_v3_large (width_multiplier=0.75)',
        ),
        ({'model': 'mobilenet_v2'}, 'mobilenet_v3_large', 'mobilenet_v2'),
        ({'convention': 'tf'}, 'mobilenet_v3_large (convention=keras)', 'mobilenet_v3_large (convention=tf)'),
        (
            {'num_removed_strides': 1, 'output_stride': 16, 'bn_epsilon': 1e-5, 'normalization': 'unit'},
            'mobilenet_v3_large (num_removed_strides=0, output_stride=32, bn_epsilon=0.001, normalization=symmetric)',
            'mobilenet_v3_large (num_removed_strides=1, output_stride=16, bn_epsilon=1e-05, normalization=unit)',
        ),
    ],
)
def test_checkpoint_of_another_identity_is_refused_in_one_line(other, held, asked, two_steps):
    identity = Identity(fields=FIELDS | other, class_names=IDENTITY.class_names)
    with open_manager(two_steps, identity=identity, read_only=True) as manager:
        for target in (TARGET, {'other': np.zeros(3)}):  # said before the trees are compared
            with pytest.raises(UserError) as error:
                manager.restore(target)
            assert str(error.value) == (
                f'checkpoint {two_steps}/20 holds {held}; the run asks for {asked}. '
                'Give the run a directory of its own.'
            )


@pytest.mark.parametrize('claim', ['float32[1099511627776]', 'float32[65536, 65536, 65536]'])
def test_a_checkpoint_that_claims_more_than_any_state_is_refused_before_memory_is_asked_for(claim, copied):
    meta = copied / '20' / 'meta' / 'metadata'
    document = json.loads(meta.read_text())
    document['arrays']['params/head/bias'] = claim
    meta.write_text(json.dumps(document))
    write_manifest(copied / '20')
    with open_manager(copied, read_only=True) as manager:
        for target in (None, TARGET):
            with pytest.raises(UserError, match=r'/20 claims \d+ bytes of arrays; 68719476736 are the most'):
                manager.restore(target)


def test_first_differing_leaf_is_named_with_both_sides(two_steps):
    def changed(**fields):
        return TARGET.replace(**fields)

    head = {'bias': jax.ShapeDtypeStruct((10,), jnp.float32)}
    stem = TARGET.params['stem']
    cases = [
        (changed(step=np.int64(0)), 'int32[] at step; the run asks for int64[].'),
        (
            changed(params={'head': {'bias': jax.ShapeDtypeStruct((1000,), jnp.float32)}, 'stem': stem}),
            'float32[10] at params/head/bias; the run asks for float32[1000].',
        ),
        (
            changed(params={'head': head, 'stem': stem | {'scale': jax.ShapeDtypeStruct((8,), jnp.float32)}}),
            'bfloat16[8] at params/stem/scale; the run asks for float32[8].',
        ),
        (
            changed(batch_stats=TARGET.batch_stats | {'tail': np.zeros(2, np.int8)}),
            'nothing at batch_stats/tail; the run asks for int8[2].',
        ),
        (changed(params={'head': head}), 'float32[8, 8] at params/stem/kernel; the run asks for nothing.'),
        (changed(ema=None), 'uint32[] at ema/count; the run asks for nothing.'),
    ]
    with open_manager(two_steps, read_only=True) as manager:
        for target, message in cases:
            with pytest.raises(UserError) as error:
                manager.restore(target)
            assert str(error.value).startswith(f'checkpoint {two_steps}/20 holds ')
            assert str(error.value).endswith(message)


def test_retention_keeps_the_last_and_the_best(tmp_path):
    metrics = {1: 0.1, 2: None, 3: 0.7, 4: None, 5: 0.7, 6: float('nan'), 7: 0.2, 8: None, 9: 0.9, 10: 0.3}
    kept = []
    with open_manager(tmp_path, keep_last=2) as manager:
        assert manager.steps() == []
        assert manager.best_step() is None
        for step, metric in metrics.items():
            manager.save(step, {'w': np.zeros(3)}, meta={}, metric=metric)
            manager.wait()
            kept.append((manager.steps(), manager.best_step()))
    assert kept == [
        ([1], 1),
        ([1, 2], 1),
        ([2, 3], 3),
        ([3, 4], 3),
        ([4, 5], 5),  # of equals, the newest
        ([5, 6], 5),  # not a number is never the best
        ([5, 6, 7], 5),
        ([5, 7, 8], 5),
        ([8, 9], 9),
        ([9, 10], 9),
    ]
    with open_manager(tmp_path, keep_last=1, keep_best=False) as manager:
        assert manager.best_step() == 9
        manager.save(11, {'w': np.zeros(3)}, meta={})
        manager.wait()
        assert manager.steps() == [11]


def test_damaged_step_is_replaced_and_does_not_count_as_kept(copied, capfd):
    with open_manager(copied, keep_last=2) as manager:
        manager.save(30, make_state(30), meta={}, metric=1.0)
    assert verify_manifest(copied / '30') == []
    for step in ('20', '30'):
        damage(copied / step / 'state' / '_METADATA', 'truncate')
    save_steps(copied, [5], keep_last=9)  # an older one to fall back to
    with open_manager(copied, keep_last=2) as manager:
        assert manager.restore(TARGET).step == 5
        assert manager.best_step() is None  # 30 had the best metric
        manager.save(30, make_state(30), meta={'again': True})
        manager.wait()
        assert manager.steps() == [5, 30]
        assert manager.restore(TARGET).meta == {'again': True}
        manager.save(15, make_state(15), meta={})  # behind the others: kept because it is the newest work
        manager.wait()
        assert manager.steps() == [15, 30]


def test_intact_step_is_not_saved_again(copied):
    with open_manager(copied) as manager:
        manager.save(20, make_state(99), meta={'position': 0})
        manager.wait()
        restored = manager.restore(TARGET)
    assert (restored.step, restored.meta) == (20, {'position': 640})
    assert digest(restored.state) == digest(make_state(20))


def test_leftovers_of_interrupted_saves_are_ignored_replaced_and_removed(copied):
    for name in ('20.unfinished', '30.unfinished', '30.unfinished.orbax-checkpoint-tmp', '40.unfinished'):
        shutil.copytree(copied / '20' / 'state', copied / name / 'state')
    (copied / 'notes').mkdir()
    with open_manager(copied) as manager:
        assert manager.steps() == [10, 20]
        assert manager.restore(TARGET).step == 20
        manager.save(30, make_state(30), meta={})
        manager.wait()
        assert digest(manager.restore(TARGET).state) == digest(make_state(30))
    assert sorted(path.name for path in copied.iterdir()) == ['10', '20', '30', 'notes']


def test_read_only_changes_nothing_on_disk(copied):
    def listing():
        return [(path, path.stat().st_mtime_ns) for path in sorted(copied.rglob('*'))]

    shutil.copytree(copied / '20', copied / '30.unfinished')
    damage(copied / '20' / 'meta' / 'metadata', 'flip')
    before = listing()
    with open_manager(copied, read_only=True, keep_last=1) as manager:
        assert manager.restore(TARGET).step == 10
        with pytest.raises(RuntimeError, match='read_only'):
            manager.save(40, make_state(40), meta={})
    assert listing() == before


def test_wrong_directory_or_number_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"^checkpoint directory='.*/absent' does not exist\.$"):
        open_manager(tmp_path / 'absent', read_only=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=r'^checkpoint directory .*/file/run cannot be created: .*\.$'):
        open_manager(tmp_path / 'file' / 'run')
    with pytest.raises(UserError, match=r'^keep_last=0 must be positive\.$'):
        open_manager(tmp_path, keep_last=0)


def test_meta_that_json_cannot_hold_is_refused_at_once(tmp_path):
    with open_manager(tmp_path) as manager, pytest.raises(TypeError, match='not JSON serializable'):
        manager.save(1, make_state(1), meta={'optimizer': object()})
    assert list(tmp_path.iterdir()) == []


def test_orbax_itself_can_read_a_step(two_steps):
    with ocp.CheckpointManager(two_steps, options=ocp.CheckpointManagerOptions(read_only=True)) as manager:
        assert sorted(manager.all_steps()) == [10, 20]
        state = manager.restore(20, args=ocp.args.Composite(state=ocp.args.StandardRestore())).state
    assert digest(state['params']) == digest(make_state(20).params)


def test_partial_restore_reads_some_fields_and_says_which_are_absent(tmp_path):
    state = {'params': {'w': np.arange(3.0)}, 'opt_state': {'m': np.ones(3)}}
    with CheckpointManager(tmp_path, identity=IDENTITY) as manager:
        manager.save(1, state, meta={})
        target = {'params': {'w': np.zeros(3)}, 'ema_params': {'w': np.zeros(3)}}
        restored = manager.restore(target, partial=True)
        with pytest.raises(UserError, match=r'holds float64\[3\] at params/w; the run asks for float64\[4\]'):
            manager.restore({'params': {'w': np.zeros(4)}}, partial=True)
    np.testing.assert_array_equal(restored.state['params']['w'], np.arange(3.0))
    assert restored.state['ema_params'] is None
