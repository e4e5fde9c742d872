"""Hosts that do not fit together, or do not all come, end at once, each with one line that says what is wrong."""

import pytest
from launching import WITHOUT_TENSORFLOW, coordinates


def end_of_pair(launcher, first='--workdir=w', second='--workdir=w', script=('train.py',)):
    """The one line with which both of two processes refuse to train."""
    pair = [
        launcher.start(*script, '--config=configs/digits.py', *flags, own, PYTHONPATH=str(WITHOUT_TENSORFLOW))
        for flags, own in zip(coordinates(), (first, second), strict=True)
    ]
    ended = [process.end() for process in pair]
    assert [end.status for end in ended] == [2, 2], ended
    (line,), (other_line,) = ([line for line in end.errors if line.startswith('error')] for end in ended)
    assert line == other_line
    return line


@pytest.mark.parametrize(
    ('first', 'second', 'difference'),
    [
        ('--config.batch_size=64', '--config.batch_size=32', 'config.batch_size: 32 instead of 64'),
        pytest.param('--workdir=a', '--workdir=b', "--workdir: 'b' instead of 'a'", marks=pytest.mark.slow),
    ],
)
def test_hosts_with_different_commands_are_named(first, second, difference, launcher):
    line = end_of_pair(launcher, first, second)
    assert line == f'error: host 1 differs from host 0 in {difference}.'


def test_hosts_with_different_data_are_named(launcher):
    line = end_of_pair(launcher, script=['tests/end_to_end/faulty_train.py', 'fewer_images', 0, 1])
    assert line == 'error: host 1 differs from host 0 in digits num_eval: 359 instead of 360.'


def test_host_that_finds_no_other_host_ends_with_one_line(launcher):
    alone = coordinates()[1]
    ended = launcher.run('train.py', '--config=configs/digits.py', '--join_timeout_seconds=2', *alone)
    address = alone[0].removeprefix('--coordinator=')
    assert (ended.status, ended.output) == (1, [])
    assert ended.errors[-1] == (
        f'error: process 1 of 2 at {address} waited 2 s for the others; start the same command on every host'
    )


@pytest.mark.slow
def test_hosts_wait_for_a_host_that_is_late_for_the_first_step(launcher):
    """Gloo connects the devices at their first sum, and gives up after 30 seconds."""
    worker = ('tests/end_to_end/late_worker.py', '--seconds=33')
    pair = [launcher.start(*worker, *flags, devices=2) for flags in coordinates()]
    for ended in [process.end() for process in pair]:
        assert (ended.status, ended.output[-1]) == (0, '4.0'), ended
