"""However a run is stopped, the same command takes it to the same end, bit for bit."""

import os
import pty
import random
import re
import shutil
import signal
import time

import pytest
from launching import PRECISE_RUN, SHORT_RUN, WITHOUT_TENSORFLOW, read_rows, read_summary

PREEMPTED_STATUS = 75  # not 0, which a launcher would take for the end of the run
# Makes the terminal of a descriptor the process's own, then becomes the command.
IN_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
terminal = int(os.environ['terminal'])
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
for descriptor in range(3):
    os.dup2(terminal, descriptor)
os.close(terminal)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
HASHES = ('step', 'params_sha256', 'ema_sha256', 'test_top1', 'test_loss')


@pytest.fixture
def copied_run(straight_run, tmp_path):
    """A copy of the uninterrupted run on one device, which ended with checkpoints 8 and 12."""
    return shutil.copytree(straight_run(), tmp_path / 'run')


def assert_same_end(workdir, straight, message, not_evaluated=()):
    """Asserts that parameters, averages and every logged step are those of the uninterrupted run."""
    ended, expected = read_summary(workdir), read_summary(straight)
    assert [ended[name] for name in HASHES] == [expected[name] for name in HASHES], message
    rows = [row for row in read_rows(straight) if row['kind'] == 'train' or row['step'] not in not_evaluated]
    assert read_rows(workdir) == rows, message


def stop(process, signum, lines):
    """Sends a signal shortly after this number of progress lines; returns the end, and the time of the signal."""
    delay = random.uniform(0, 0.2) if signum == signal.SIGKILL else 0.0
    process.read(('starting from', 'going on from'))
    process.read('step', lines)
    time.sleep(delay)
    process.send(signum)
    return process.end(), f'{signum.name} {delay:.3f} s after {lines} progress lines'


def stopped_step(ended, signum=signal.SIGTERM):
    """The step at which a run says that a signal stopped it."""
    assert ended.status in (0, PREEMPTED_STATUS), ended
    (line,) = [line for line in ended.output if line.startswith(f'stopped by {signum.name} ')]
    assert 'saved' in line
    return int(re.search(r'step (\d+)', line)[1])


def test_killed_at_a_random_moment(launcher, straight_run, tmp_path):
    straight = straight_run()
    ended, moment = stop(launcher.train(tmp_path), signal.SIGKILL, random.randint(0, 12))
    assert ended.status == -signal.SIGKILL, ended
    ended = launcher.train(tmp_path).end()
    assert ended.status == 0, ended
    assert_same_end(tmp_path, straight, f'{moment}\n{ended}')


@pytest.mark.parametrize(
    'signum',
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),  # to a pair of hosts in the fast tests
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_stopped_by_a_signal(signum, launcher, straight_run, tmp_path):
    straight = straight_run()
    process = launcher.train(tmp_path, f'--preempted_status={PREEMPTED_STATUS}')
    ended, moment = stop(process, signum, random.randint(1, 5))
    assert ended.status == PREEMPTED_STATUS, ended
    step = stopped_step(ended, signum)
    assert read_summary(tmp_path)['finished'] is False and (tmp_path / 'curves.png').exists()
    ended = launcher.train(tmp_path).end()
    assert f'going on from the checkpoint of step {step}' in ended.output, ended
    # The machine is being taken away: a run saves, and leaves out an evaluation that is due at that very step.
    assert_same_end(tmp_path, straight, f'{moment}\n{ended}', not_evaluated=[step])


def test_ctrl_c_while_the_step_compiles_is_one_line(launcher, tmp_path):
    process = launcher.train(tmp_path, JAX_ENABLE_COMPILATION_CACHE='0')
    process.read('starting from')
    process.send(signal.SIGINT)
    ended = process.end()
    assert (ended.status, ended.errors) == (130, ['interrupted'])
    assert [line for line in ended.output if line.startswith('step')] == []


@pytest.mark.slow
def test_run_whose_terminal_closes_saves_and_ends(launcher, straight_run, tmp_path):
    """What it prints afterwards goes nowhere, which is no reason to fail."""
    straight = straight_run()
    controller, terminal = pty.openpty()
    arguments = ['train.py', '--config=configs/digits.py', f'--workdir={tmp_path}']
    fields = [f'--config.{name}={value}' for name, value in SHORT_RUN.items()]
    run = launcher.start('-c', IN_A_TERMINAL, *arguments, *fields, terminal=str(terminal), pass_fds=[terminal])
    os.close(terminal)
    seen = b''
    while b'step 2/' not in seen:
        seen += os.read(controller, 1000)
    os.close(controller)
    ended = run.end()
    assert ended.status == 0, ended
    ended = launcher.train(tmp_path).end()
    (line,) = [line for line in ended.output if line.startswith('going on from the checkpoint of step')]
    assert_same_end(tmp_path, straight, ended, not_evaluated=[int(line.rpartition(' ')[2])])


@pytest.mark.slow  # on one device, and on a pair of hosts, in the fast tests
def test_killed_then_stopped_on_four_devices(launcher, straight_run, tmp_path):
    straight = straight_run(4, PRECISE_RUN)

    def train():
        return launcher.train(tmp_path, fields=PRECISE_RUN, devices=4)

    _, killed = stop(train(), signal.SIGKILL, random.randint(0, 4))
    ended, stopped = stop(train(), signal.SIGTERM, 0)
    step = stopped_step(ended)
    ended = train().end()
    assert ended.status == 0, ended
    assert_same_end(tmp_path, straight, f'{killed}, {stopped}\n{ended}', not_evaluated=[step])


def test_second_run_in_the_workdir_ends_and_leaves_it_alone(launcher, straight_run, tmp_path):
    run = launcher.train(tmp_path)
    run.read('step', 5)  # the checkpoint of step 4 is there, or begun
    run.send(signal.SIGSTOP)  # or it might have ended before the other one has started
    second = launcher.train(tmp_path).end()
    run.send(signal.SIGCONT)
    line = rf"error: workdir='{tmp_path}' is in use by process \d+ on .+ since .+\."
    assert (second.status, second.output) == (2, []), second
    assert re.fullmatch(line, second.errors[-1]), second
    ended = run.end()
    assert ended.status == 0, ended
    assert not (tmp_path / 'run.lock').exists()
    assert_same_end(tmp_path, straight_run(), ended)


def test_flipped_byte_in_the_newest_checkpoint_is_noticed_and_made_good(launcher, straight_run, copied_run):
    files = [path for path in sorted((copied_run / 'checkpoints' / '12').rglob('*')) if path.stat().st_size]
    damaged = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(damaged.read_bytes())
    position = random.randrange(len(content))
    content[position] ^= 1
    damaged.write_bytes(content)

    ended = launcher.train(copied_run).end()
    assert ended.status == 0, ended
    name = damaged.relative_to(copied_run / 'checkpoints' / '12')
    assert f'WARNING: checkpoint 12 is damaged ({name} changed); falling back to 8' in ended.errors, ended
    assert 'going on from the checkpoint of step 8' in ended.output
    assert_same_end(copied_run, straight_run(), f'byte {position} of {damaged}')


def test_finished_run_started_again_trains_no_further(launcher, straight_run, copied_run):
    (copied_run / 'summary.json').unlink()
    ended = launcher.train(copied_run).end()
    assert ended.status == 0, ended
    assert [line for line in ended.output if line.startswith('step')] == []
    assert_same_end(copied_run, straight_run(), ended)


def test_none_of_these_runs_could_import_tensorflow(launcher):
    ended = launcher.run('-c', 'import tensorflow', PYTHONPATH=str(WITHOUT_TENSORFLOW))
    assert ended.status == 1
    assert ended.errors[-1].startswith('ModuleNotFoundError')


def test_uninterrupted_run_logs_and_evaluates_each_step_that_is_due(straight_run):
    rows = read_rows(straight_run())
    assert [row['step'] for row in rows if row['kind'] == 'train'] == list(range(1, 13))
    assert [row['step'] for row in rows if row['kind'] == 'eval'] == [6, 12]


def test_each_step_is_compiled_once_in_a_run(straight_run):
    log = (straight_run() / 'compile.log').read_text().splitlines()
    of_images = [line for line in log if line.startswith('WARNING') and 'Compiling' in line and 'uint8[' in line]
    has_step_count = ['ShapedArray(int32[])' in line for line in of_images]
    assert has_step_count == [True, False], of_images  # the training step and the evaluation step
