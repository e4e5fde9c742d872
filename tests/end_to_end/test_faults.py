"""A fault in one process ends the run soon, with the cause shown and the last checkpoint intact."""

import resource
import shutil
import signal

import pytest
from launching import PRECISE_RUN, SHORT_RUN, coordinates, read_rows, read_summary

from mobilenets_jax.checkpoints import verify_manifest

FAULTY_TRAIN = 'tests/end_to_end/faulty_train.py'


def checkpoints_of(workdir):
    """The steps that a run left; all of them must be intact."""
    steps = [path for path in (workdir / 'checkpoints').iterdir() if path.name.isdecimal()]
    assert [verify_manifest(path) for path in steps] == [[]] * len(steps)
    return sorted(int(path.name) for path in steps)


def end_of_pair(launcher, workdir, fault, batch, **fields):
    """Trains in two processes; the second gets the fault in a batch. Returns how they ended."""
    script = (FAULTY_TRAIN, fault, batch, 1)
    fields = PRECISE_RUN | fields
    pair = [launcher.train(workdir, *flags, fields=fields, devices=2, script=script) for flags in coordinates()]
    return [process.end() for process in pair]


def test_full_disk_is_one_line_and_the_run_goes_on_afterwards(launcher, straight_run, tmp_path):
    run = launcher.train(tmp_path)
    run.read('step 8/12  checkpoint')  # that of step 4 is whole
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (200_000, 200_000))  # less than a checkpoint
    ended = run.end()
    assert ended.status == 1, ended
    (line,) = [line for line in ended.errors if not line.startswith('WARNING')]
    assert line.startswith(f'error: checkpoint {tmp_path}/checkpoints/') and ' GB free): ' in line
    assert 'File too large' in line
    assert checkpoints_of(tmp_path) in ([4], [4, 8])
    ended = launcher.train(tmp_path).end()
    assert ended.status == 0, ended
    assert read_rows(tmp_path) == read_rows(straight_run())
    assert read_summary(tmp_path)['params_sha256'] == read_summary(straight_run())['params_sha256']


@pytest.mark.slow  # in one process in the fast tests
def test_disk_on_which_nothing_fits_is_a_few_lines(launcher, tmp_path):
    run = launcher.train(tmp_path)
    run.read('step 8/12  checkpoint')  # that of step 4 is whole
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (1_000, 1_000))
    ended = run.end()
    assert ended.status == 1, ended
    (line,) = [line for line in ended.errors if line.startswith('error: ')]
    assert f'{tmp_path}/' in line and 'File too large' in line, ended  # the log, or the checkpoint of step 8
    assert len(ended.errors) <= 5, ended


@pytest.mark.slow
def test_workdir_that_is_deleted_is_one_line(launcher, tmp_path):
    run = launcher.train(tmp_path / 'run')
    run.read('step 6/')
    run.send(signal.SIGSTOP)  # or it might write while the folder is deleted
    shutil.rmtree(tmp_path / 'run')
    run.send(signal.SIGCONT)
    ended = run.end()
    assert ended.status == 1, ended
    (line,) = [line for line in ended.errors if not line.startswith('WARNING')]
    assert line.startswith('error: ') and f'{tmp_path}/run/' in line
    assert len(ended.errors) <= 5


@pytest.mark.slow  # in one process in the fast tests
def test_images_that_are_not_numbers_are_one_line(launcher, tmp_path):
    ended = launcher.train(tmp_path, script=(FAULTY_TRAIN, 'poison', 5, 0)).end()
    line = 'error: A loss or gradient is not finite in steps 6 to 6; none of them was saved.'
    assert (ended.status, ended.errors) == (1, [line])
    assert read_rows(tmp_path)[-1]['loss'] is None
    assert checkpoints_of(tmp_path) == [4]


@pytest.mark.slow
def test_blocked_data_thread_shows_where_it_blocks(launcher, straight_run, tmp_path):
    straight_run()  # has compiled the step
    fields = SHORT_RUN | {'hang_timeout_seconds': 20.0}
    ended = launcher.train(tmp_path, fields=fields, script=(FAULTY_TRAIN, 'block', 9, 0)).end()
    assert ended.status == 1
    assert 'Timeout (0:00:20)!' in ended.errors
    stacks = '\n'.join(ended.errors)
    assert 'faulty_train.py", line' in stacks and 'in block' in stacks
    assert 'loop.py", line' in stacks and 'in train' in stacks
    assert checkpoints_of(tmp_path) == [4, 8]


@pytest.mark.parametrize(('fault', 'status'), [('raise', 1), ('die', -signal.SIGKILL)])
def test_failure_of_one_process_ends_all(fault, status, launcher):
    worker = ('tests/end_to_end/failing_worker.py', f'--fault={fault}')
    first, second = [process.end() for process in [launcher.start(*worker, *flags) for flags in coordinates()]]
    assert [end.output[-1] for end in (first, second)] == ['all are there'] * 2, f'{first}\n{second}'
    assert second.status == status
    assert ('OSError: img_000.jpg is truncated' in second.errors) == (fault == 'raise')
    assert first.status not in (0, -signal.SIGKILL)  # it was not killed


@pytest.mark.slow
def test_worker_that_raises_shows_its_error_and_ends_the_others(launcher, straight_pair, tmp_path):
    first, second = end_of_pair(launcher, tmp_path, 'raise', batch=4)
    assert checkpoints_of(tmp_path) == [3], f'{first}\n{second}'
    assert second.status == 1
    assert 'OSError: img_000.jpg is truncated' in second.errors
    assert first.status not in (0, -signal.SIGKILL)


@pytest.mark.slow
def test_worker_that_dies_ends_the_others(launcher, straight_pair, tmp_path):
    # Batch 8 is read ahead at step 7, when the checkpoint of step 3 has been waited for and that of step 6 begun.
    first, second = end_of_pair(launcher, tmp_path, 'die', batch=8)
    assert checkpoints_of(tmp_path) in ([3], [3, 6]), f'{first}\n{second}'
    assert second.status == -signal.SIGKILL
    assert first.status not in (0, -signal.SIGKILL)


@pytest.mark.slow
def test_images_that_are_not_numbers_on_one_host_stop_all_before_anything_is_saved(launcher, tmp_path):
    fields = {'log.every_steps': 8, 'evaluation.every_steps': 8}
    for ended in end_of_pair(launcher, tmp_path, 'poison', batch=4, **fields):
        assert ended.status == 1
        assert 'A loss or gradient is not finite in steps 4 to 6; none of them was saved.' in ended.errors[-1]
    assert checkpoints_of(tmp_path) == [3]
