"""A fault in one process ends the run soon, with the cause shown and the last checkpoint intact."""

import signal

import pytest
from launching import PRECISE_RUN, SHORT_RUN, coordinates

from mobilenets_jax.checkpoints import verify_manifest

FAULTY_TRAIN = 'tests/end_to_end/faulty_train.py'


def checkpoints_of(workdir):
    """The steps that a run left; all of them must be intact."""
    steps = [path for path in (workdir / 'checkpoints').iterdir() if path.name.isdecimal()]
    assert [verify_manifest(path) for path in steps] == [[]] * len(steps)
    return sorted(int(path.name) for path in steps)


def end_of_pair(launcher, workdir, fault, batch, **fields):
    """Trains in two processes of which the second meets the fault in a batch; returns how they ended."""
    script = (FAULTY_TRAIN, fault, batch, 1)
    fields = PRECISE_RUN | fields
    pair = [launcher.train(workdir, *flags, fields=fields, devices=2, script=script) for flags in coordinates()]
    return [process.end() for process in pair]


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
    assert first.status not in (0, -signal.SIGKILL)  # nobody had to kill it


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
