"""Two processes with two devices each train, stop, go on and evaluate as one."""

import json
import signal

import pytest
from launching import PRECISE_RUN, assert_states_agree, coordinates, end_of, read_rows, read_state, read_summary


def test_pair_trains_as_one_process_with_four_devices(straight_pair, straight_run):
    step = PRECISE_RUN['num_steps']
    assert_states_agree(read_state(straight_pair, step), read_state(straight_run(4, PRECISE_RUN), step))


def test_pair_stopped_through_one_process_goes_on_to_the_same_end(straight_pair, train_pair, tmp_path):
    pair = train_pair(tmp_path)
    pair[0].read('starting from')
    pair[0].read('step')
    pair[1].send(signal.SIGINT)  # as Ctrl-C on one of the hosts
    stopped = end_of(pair)
    (line,) = [line for line in stopped.output if line.startswith('stopped by SIGINT ')]
    assert 'saved' in line
    assert read_summary(tmp_path)['finished'] is False

    ended = end_of(train_pair(tmp_path))
    assert any(line.startswith('going on from the checkpoint of step') for line in ended.output), ended
    assert read_rows(tmp_path) == read_rows(straight_pair)
    for name in ('params_sha256', 'ema_sha256'):
        assert read_summary(tmp_path)[name] == read_summary(straight_pair)[name], f'{line}\n{ended}'


def test_pair_evaluates_as_one_process_does(straight_pair, launcher):
    evaluate = ['eval.py', f'--workdir={straight_pair}']
    double = {'JAX_ENABLE_X64': '1'}
    pair = end_of([launcher.start(*evaluate, *flags, devices=2, **double) for flags in coordinates()])
    alone = launcher.run(*evaluate, **double)
    by_pair, by_one = (json.loads(ended.output[-1]) for ended in (pair, alone))
    assert by_pair.pop('loss') == pytest.approx(by_one.pop('loss'), rel=1e-6)
    assert by_pair == by_one
    assert by_pair['count'] == 360


@pytest.mark.slow
def test_second_pair_in_the_workdir_ends_as_one(train_pair, tmp_path):
    first = train_pair(tmp_path)
    first[0].read('starting from')
    for ended in [process.end() for process in train_pair(tmp_path)]:
        assert (ended.status, ended.output) == (2, []), ended
        assert f"error: workdir='{tmp_path}' is in use by process " in ended.errors[-1], ended
    assert end_of(first).status == 0
    assert not (tmp_path / 'run.lock').exists()
