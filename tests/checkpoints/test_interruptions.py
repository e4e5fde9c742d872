"""A kill, a full disk, a signal and several processes: the ways in which a save does not go as planned."""

import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from checkpoint_states import IDENTITY, WIDTH, digest, make_state

from mobilenets_jax.checkpoints import CheckpointManager, verify_manifest
from mobilenets_jax.checkpoints.manager import CheckpointError

WORKER = Path(__file__).with_name('checkpoint_worker.py')
ROOT = Path(__file__).parents[2]
TARGET = jax.eval_shape(lambda: make_state(0))


def start_worker(*arguments):
    return subprocess.Popen(
        [sys.executable, str(WORKER), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
    )


def read_until(process, prefix):
    """Returns the output up to and with the first line that starts with `prefix`."""
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith(prefix):
            return lines
    raise AssertionError(f'the worker ended before it said {prefix!r}:\n' + '\n'.join(lines))


def free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


@pytest.fixture
def kill_afterwards():
    """Ends the processes put into it, after two minutes at the latest, so that no failure can hang the suite."""
    processes = []
    watchdog = threading.Timer(120, lambda: [process.kill() for process in processes])
    watchdog.start()
    yield processes
    watchdog.cancel()
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_sigkill_at_any_moment_of_a_save_loses_no_finished_checkpoint(tmp_path, kill_afterwards, capfd):
    moments = random.Random(0)
    finished = 0
    target = jax.eval_shape(lambda: make_state(0, WIDTH))
    for _ in range(5):
        process = start_worker('train', tmp_path)
        kill_afterwards.append(process)
        lines = read_until(process, f'saving {finished + moments.randint(2, 4)}')
        time.sleep(moments.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        lines += process.communicate()[0].splitlines()
        assert not [line for line in lines if line.startswith(('WRONG', 'WARNING: checkpoint'))], lines
        finished = max(int(line.split()[1]) for line in lines if line.startswith('saved'))
        with CheckpointManager(tmp_path, identity=IDENTITY, read_only=True) as manager:
            restored = manager.restore(target)
            # A directory with a bare number is whole, whenever the kill came.
            assert [verify_manifest(tmp_path / str(step)) for step in manager.steps()] == [[]] * len(manager.steps())
        assert restored.step >= finished
        assert digest(restored.state) == digest(make_state(restored.step, WIDTH))
        finished = restored.step
    assert 'WARNING: checkpoint' not in capfd.readouterr().err


@pytest.fixture
def small_files():
    """Calling it makes every write beyond 200 kB fail, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize('surfaces_at', ['wait', 'save', 'close'])
def test_full_disk_is_reported_with_the_path_and_spares_the_earlier_step(surfaces_at, tmp_path, small_files):
    noise = np.random.default_rng(0).normal(size=(1000, 1000))
    manager = CheckpointManager(tmp_path, identity=IDENTITY)
    manager.save(1, {'w': noise}, meta={})
    manager.wait()
    small_files()
    manager.save(2, {'w': noise + 1}, meta={})
    with pytest.raises(
        CheckpointError, match=rf'^checkpoint {tmp_path}/2 could not be saved \(.* GB free\): .*File too large'
    ):
        {'wait': manager.wait, 'save': lambda: manager.save(3, {'w': noise}, meta={}), 'close': manager.close}[
            surfaces_at
        ]()
    manager.close()  # reported once
    with CheckpointManager(tmp_path, identity=IDENTITY) as manager:
        assert manager.steps() == [1]
        np.testing.assert_array_equal(manager.restore({'w': noise}).state['w'], noise)


def test_save_works_again_once_there_is_space(tmp_path, small_files):
    noise = np.random.default_rng(0).normal(size=(1000, 1000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with CheckpointManager(tmp_path, identity=IDENTITY) as manager:
        small_files()
        manager.save(1, {'w': noise}, meta={})
        with pytest.raises(CheckpointError, match='could not be saved'):
            manager.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        manager.save(1, {'w': noise}, meta={})
        np.testing.assert_array_equal(manager.restore({'w': noise}).state['w'], noise)
    assert [path.name for path in tmp_path.iterdir()] == ['1']


def test_deleted_directory_is_reported_and_its_thread_ends(tmp_path):
    before = set(threading.enumerate())
    manager = CheckpointManager(tmp_path / 'run', identity=IDENTITY)
    (tmp_path / 'run').rmdir()
    (tmp_path / 'run').write_text('')
    with pytest.raises(CheckpointError, match=rf'{tmp_path}/run'):
        manager.save(1, {'w': np.zeros(3)}, meta={})
        manager.wait()
    manager.close()
    left = [thread for thread in set(threading.enumerate()) - before if not thread.daemon]
    for thread in left:
        thread.join(timeout=10)  # Orbax's own thread may be ending still
    assert [thread.name for thread in left if thread.is_alive()] == []


def test_two_processes_save_restore_and_stop_as_one(tmp_path, kill_afterwards):
    port = free_port()
    workers = [start_worker('pod', tmp_path, rank, 2, port) for rank in range(2)]
    kill_afterwards.extend(workers)
    outputs = [read_until(worker, 'running') for worker in workers]
    workers[1].send_signal(signal.SIGINT)  # which it passes on to JAX as a SIGTERM
    for worker, lines in zip(workers, outputs, strict=True):
        lines += worker.communicate()[0].splitlines()
        assert worker.returncode == 0, '\n'.join(lines)
    said = [
        [line for line in lines if line.startswith(('devices', 'empty', 'steps', 'restored', 'refused', 'stopped'))]
        for lines in outputs
    ]
    assert said[0] == said[1]
    stopped_by, stopped_at = said[0][-1].split()[1], int(said[0][-1].split()[2])
    assert stopped_by == 'SIGINT'
    assert said[0][:-1] == [
        'devices 4 2',
        'empty None',
        'steps [1, 2, 3] 1',
        "restored 2 {'position': 2} True",
        f'refused checkpoint {tmp_path}/3 is damaged (meta/metadata changed). Known steps: 1, 2, 3.',
        'refused After step 3 params/kernel of device 0 of host 1 differ from those of the first device; '
        'that state was not saved.',
    ]
    # The loud line comes from the process that looked, once.
    warning = 'WARNING: checkpoint 3 is damaged (meta/metadata changed); falling back to 2'
    assert [lines.count(warning) for lines in outputs] == [1, 0]
    # Each wrote its half.
    state = tmp_path / str(stopped_at) / 'state'
    halves = [sum(file.stat().st_size for file in state.glob(f'ocdbt.process_{rank}/d/*')) for rank in range(2)]
    arrays = jax.tree.leaves(make_state(stopped_at, WIDTH))
    assert halves == pytest.approx([sum(array.nbytes for array in arrays) / 2] * 2, rel=0.2)
    # What two processes with four devices saved, one with eight restores.
    assert stopped_at >= 4
    with CheckpointManager(tmp_path, identity=IDENTITY, read_only=True) as manager:
        assert manager.steps() == [1, 2, stopped_at]
        target = jax.eval_shape(lambda: make_state(0, WIDTH))
        assert digest(manager.restore(target).state) == digest(make_state(stopped_at, WIDTH))


def test_full_disk_of_one_process_ends_both_and_spares_the_earlier_step(tmp_path, kill_afterwards):
    port = free_port()
    workers = [start_worker('full_disk', tmp_path, rank, 2, port) for rank in range(2)]
    kill_afterwards.extend(workers)
    first, second = (worker.communicate()[0].splitlines() for worker in workers)
    assert [worker.returncode in (0, -signal.SIGKILL) for worker in workers] == [False, False]
    assert 'saved 1' in first and 'saved 2' not in first + second
    (failed,) = [line for line in second if line.startswith('failed')]
    assert failed.startswith(f'failed checkpoint {tmp_path}/2 could not be saved (') and 'File too large' in failed
    with CheckpointManager(tmp_path, identity=IDENTITY, read_only=True) as manager:
        assert manager.steps() == [1]
        target = jax.eval_shape(lambda: make_state(0, WIDTH))
        assert digest(manager.restore(target).state) == digest(make_state(1, WIDTH))
