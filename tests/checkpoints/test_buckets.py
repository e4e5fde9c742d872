"""Checkpoints in a bucket, which renames nothing: a kill between any two writes leaves whole steps alone."""

import jax
import pytest
from checkpoint_states import IDENTITY, digest, make_state

from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.errors import UserError

DIRECTORY = 'gs://bucket/run/checkpoints'
TARGET = jax.eval_shape(lambda: make_state(0))


def open_manager(**options):
    return CheckpointManager(DIRECTORY, **{'identity': IDENTITY, 'keep_last': 1, 'keep_best': False, **options})


def save(*steps, **options):
    with open_manager(**options) as manager:
        for step in steps:
            manager.save(step, make_state(step), meta={'position': step * 32})


def restored_step():
    """The step that a run would go on from, its state compared with what was saved; None at the beginning."""
    with open_manager(read_only=True) as manager:
        restored = manager.restore(TARGET)
    if restored is None:
        return None
    assert digest(restored.state) == digest(make_state(restored.step))
    return restored.step


def test_after_a_kill_at_any_moment_the_last_complete_step_is_restored(bucket, capsys):
    """Looks at the bucket as it was after every single write and deletion of three saves."""
    moments = []

    def note(name):
        moments.append((name, bucket.objects))

    bucket.changed = note
    save(10, 20, 30)
    bucket.changed = lambda name: None
    marks = [name for name, _ in moments if name.endswith('/manifest.json')]
    assert marks == [f'run/checkpoints/{step}/manifest.json' for step in (10, 20, 10, 30, 20)]
    expected = None
    for name, objects in moments:
        bucket.objects = objects
        if name.endswith('manifest.json') and name in objects:
            expected = int(name.split('/')[-2])
        assert restored_step() == expected, name
    assert len(moments) > 30
    assert 'damaged' not in capsys.readouterr().err
    assert {name.split('/')[2] for name in bucket.names()} == {'30'}


def test_the_next_save_removes_what_a_kill_left(bucket):
    save(10)
    whole = bucket.objects
    half = {name.replace('/10/', '/20/'): value for name, value in whole.items() if 'manifest' not in name}
    bucket.objects = whole | half | {'run/checkpoints/15.unfinished/state/d': (b'x', 10**6)}
    save(20)
    assert {name.split('/')[2] for name in bucket.names()} == {'20'}
    assert restored_step() == 20


def test_a_damaged_step_is_named_and_replaced(bucket, capsys):
    save(10, 20, keep_last=2)
    name = max(bucket.names('run/checkpoints/20/state/'), key=lambda name: len(bucket.read(name)))
    bucket.write(name, bucket.read(name)[:-1] + b'~')
    assert restored_step() == 10
    assert 'WARNING: checkpoint 20 is damaged (state/' in capsys.readouterr().err
    save(20, keep_last=2)
    assert restored_step() == 20


def test_a_bucket_without_checkpoints(bucket):
    with open_manager() as manager:
        assert manager.restore(TARGET) is None and manager.steps() == []
    with pytest.raises(UserError, match='^checkpoint directory=.gs://bucket/run/checkpoints. does not exist.$'):
        open_manager(read_only=True)


def test_one_step_by_its_number(bucket):
    save(10, 20, keep_last=2)
    with open_manager(read_only=True) as manager:
        assert digest(manager.restore(TARGET, step=10).state) == digest(make_state(10))
        with pytest.raises(UserError, match='^step=30 is not in gs://bucket/run/checkpoints. Known: 10, 20.$'):
            manager.restore(TARGET, step=30)
