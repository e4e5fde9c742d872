"""One run in one workdir: of several that start at once exactly one trains, and a killed run blocks no other."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mobilenets_jax import workdir_lock
from mobilenets_jax.errors import UserError
from mobilenets_jax.workdir_lock import LOCK_NAME, Holder, WorkdirLock

WORKER = Path(__file__).with_name('lock_worker.py')
ROUNDS, PROCESSES = 8, 6


@pytest.fixture
def quick(monkeypatch):
    """Waits a second for what is waited for a minute else."""
    monkeypatch.setattr(workdir_lock, 'STALE_SECONDS', 1.0)
    monkeypatch.setattr(workdir_lock, '_POLL_SECONDS', 0.02)


def holder(**fields):
    return dataclasses.replace(Holder.this_process(), **{'token': 'another', **fields})


def leave(workdir, left):
    (workdir / LOCK_NAME).write_text(json.dumps(dataclasses.asdict(left)))


def held_by(workdir):
    return json.loads((workdir / LOCK_NAME).read_text())


def test_of_processes_that_start_at_once_one_holds_it(tmp_path):
    """The first round finds no folder, each later one the lock of a process that was killed."""
    command = [sys.executable, WORKER, tmp_path / 'run', str(ROUNDS), str(PROCESSES)]
    environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    rounds = json.loads(ended.stdout)
    assert len(rounds) == ROUNDS, ended.stderr
    for said in rounds:
        others = [line for line in said if line != 'holds it']
        assert len(others) == PROCESSES - 1, said
        line = rf"workdir='{tmp_path}/run' is in use by process (\d+) on .+ since .+ UTC\."
        assert len({re.fullmatch(line, other)[1] for other in others}) == 1, said
    assert ended.stderr == ''  # no run had to wait


def test_it_is_deleted_in_the_end_and_a_folder_without_a_run_with_it(tmp_path):
    with WorkdirLock(tmp_path / 'a' / 'b'):
        assert held_by(tmp_path / 'a' / 'b')['pid'] == os.getpid()
        with pytest.raises(UserError, match=f'is in use by process {os.getpid()} on '):
            WorkdirLock(tmp_path / 'a' / 'b').__enter__()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError), WorkdirLock(tmp_path / 'run'):
        (tmp_path / 'run' / 'config.json').write_text('')
        raise ZeroDivisionError
    assert [path.name for path in (tmp_path / 'run').iterdir()] == ['config.json']


@pytest.mark.parametrize(
    'left',
    [
        {'process_start': 1},  # the process id was used again
        {'pid': 2**22 + 1},  # there is no such process
        {'machine': 'another', 'heartbeat': 0.0},
    ],
)
def test_what_is_surely_left_is_taken_over_at_once(left, tmp_path, capsys):
    leave(tmp_path, holder(**left))
    with WorkdirLock(tmp_path):
        assert held_by(tmp_path)['token'] != 'another'
    assert capsys.readouterr().err == ''


def test_lock_of_another_machine_is_taken_over_when_its_heartbeat_stops(tmp_path, capsys, quick):
    leave(tmp_path, holder(machine='another', host='vm-7', pid=1))
    begin = time.monotonic()
    with WorkdirLock(tmp_path):
        assert time.monotonic() - begin >= 1
        assert held_by(tmp_path)['pid'] == os.getpid()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"workdir='{tmp_path}' was left by process 1 on vm-7, or is in use: waiting up to 1 s")


def test_lock_of_another_machine_is_respected_while_its_heart_beats(tmp_path, quick):
    left = holder(machine='another', host='vm-7', pid=1)
    leave(tmp_path, left)
    beat = threading.Timer(0.2, lambda: leave(tmp_path, dataclasses.replace(left, heartbeat=left.heartbeat + 10)))
    beat.start()
    with pytest.raises(UserError, match='is in use by process 1 on vm-7 since '):
        WorkdirLock(tmp_path).__enter__()
    beat.join()
    assert held_by(tmp_path)['token'] == 'another'


def test_lock_that_goes_while_it_is_waited_for_is_taken(tmp_path, quick):
    leave(tmp_path, holder(machine='another'))
    end = threading.Timer(0.2, (tmp_path / LOCK_NAME).unlink)
    end.start()
    with WorkdirLock(tmp_path):
        assert held_by(tmp_path)['pid'] == os.getpid()
    end.join()


@pytest.mark.parametrize('content', ['', '{"host": 3}', '[]'])
def test_run_also_waits_for_a_file_that_is_not_a_lock(content, tmp_path, capsys, quick):
    (tmp_path / LOCK_NAME).write_text(content)
    with WorkdirLock(tmp_path):
        assert held_by(tmp_path)['pid'] == os.getpid()
    assert 'by process 0 on an unknown machine' in capsys.readouterr().err


def test_heart_beats_while_the_lock_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(workdir_lock, 'HEARTBEAT_SECONDS', 0.01)
    with WorkdirLock(tmp_path):
        first = held_by(tmp_path)
        while held_by(tmp_path)['heartbeat'] == first['heartbeat']:
            time.sleep(0.01)
        assert held_by(tmp_path)['token'] == first['token']
        (tmp_path / LOCK_NAME).unlink()
        while not (tmp_path / LOCK_NAME).exists():  # after any deletion the run goes on
            time.sleep(0.01)


def test_process_that_was_taken_for_gone_ends(tmp_path):
    """It was stopped for so long that another one took the lock over."""
    script = (
        'import sys, time; from mobilenets_jax import workdir_lock; workdir_lock.HEARTBEAT_SECONDS = 0.1\n'
        'with workdir_lock.WorkdirLock(sys.argv[1]): print("in", flush=True); time.sleep(60)'
    )
    command = [sys.executable, '-c', script, tmp_path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'in\n'
    process.send_signal(signal.SIGSTOP)
    leave(tmp_path, holder(host='vm-8', pid=7))
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors == f"error: workdir='{tmp_path}' was taken over by process 7 on vm-8; this process ends.\n"
    assert held_by(tmp_path)['token'] == 'another'


def test_where_writers_cannot_keep_each_other_out_the_last_of_them_holds_it(tmp_path, monkeypatch):
    """As in a bucket: what is written at the same moment is looked at again a little later."""

    def refuse(descriptor, operation):
        raise OSError('not supported')

    monkeypatch.setattr(workdir_lock.fcntl, 'flock', refuse)
    monkeypatch.setattr(workdir_lock, '_SETTLE_SECONDS', 0.5)
    later = threading.Timer(0.2, lambda: leave(tmp_path, holder(host='vm-9', pid=5)))
    later.start()
    with pytest.raises(UserError, match='is in use by process 5 on vm-9 since '):
        WorkdirLock(tmp_path).__enter__()
    later.join()
    (tmp_path / LOCK_NAME).unlink()
    with WorkdirLock(tmp_path):
        assert held_by(tmp_path)['pid'] == os.getpid()


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=rf"^workdir='{tmp_path}/file/run' cannot be written: .+\.$"):
        WorkdirLock(tmp_path / 'file' / 'run').__enter__()
