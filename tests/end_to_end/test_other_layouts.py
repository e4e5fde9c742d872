"""A checkpoint of two processes with two devices each goes on anywhere else."""

import shutil

import pytest
from launching import PRECISE_RUN, assert_states_agree, coordinates, end_of, read_rows, read_state, read_summary

FIELDS = PRECISE_RUN | {
    'model.sync_bn': True,
    'model.dropout_rate': 0.0,  # its masks differ from device to device
    'batch_size': 16,
    'num_steps': 23,
    'evaluation.every_steps': 23,
    'checkpoint.keep_last': 9,
}
LAYOUTS = ((1, 1), (1, 4), (4, 1))  # processes, devices of each


def train(launcher, workdir, processes, devices, fields):
    flags = coordinates(processes) if processes > 1 else [[]]
    return end_of([launcher.train(workdir, *own, fields=fields, devices=devices) for own in flags])


def test_finished_pair_loaded_by_one_process_has_the_same_bits(straight_pair, straight_run, launcher, tmp_path):
    straight_run(4, PRECISE_RUN)  # has compiled what is needed
    workdir = shutil.copytree(straight_pair, tmp_path / 'run')
    (workdir / 'summary.json').unlink()
    train(launcher, workdir, 1, 4, PRECISE_RUN)
    names = ('step', 'params_sha256', 'ema_sha256', 'test_top1', 'test_count')
    by_one, by_pair = (read_summary(folder) for folder in (workdir, straight_pair))
    assert [by_one[name] for name in names] == [by_pair[name] for name in names]


@pytest.mark.slow
def test_run_of_a_pair_is_resumed_with_other_layouts(launcher, tmp_path):
    pair = tmp_path / 'pair'
    train(launcher, pair, 2, 2, FIELDS)
    expected = read_summary(pair)
    for processes, devices in LAYOUTS:
        workdir = tmp_path / f'{processes}x{devices}'
        shutil.copytree(pair / 'checkpoints' / '3', workdir / 'checkpoints' / '3')
        ended = train(launcher, workdir, processes, devices, FIELDS)
        assert 'going on from the checkpoint of step 3' in ended.output
        assert f'{processes * devices} cpu device(s), {processes} process(es), batch 16, 23 steps' in ended.output
        # The same batches: the first step behind the checkpoint has the same loss.
        losses = [next(row['loss'] for row in read_rows(run) if row['step'] == 4) for run in (workdir, pair)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
        assert_states_agree(read_state(workdir, 23), read_state(pair, 23))
        evaluated = read_summary(workdir)
        assert evaluated['test_loss'] == pytest.approx(expected['test_loss'], rel=1e-6)
        assert [evaluated[name] for name in ('step', 'test_top1', 'test_count')] == [23, expected['test_top1'], 360]
