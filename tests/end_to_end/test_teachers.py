"""A run with a teacher ends the same wherever it was stopped, refuses another teacher, and is evaluated without one."""

import json
import shutil

import pytest
from launching import SHORT_RUN, forked_results, read_rows, read_summary


def flags(fields):
    return ' '.join(f'--config.{name}={value}' for name, value in fields.items())


TRAIN = f'train.py --config=configs/digits.py {flags(SHORT_RUN)}'
TEACHER = {'distillation.teacher': 'FOLDER/teacher', 'distillation.weight': 0.7, 'distillation.temperature': 2.0}
WITH_TEACHER = f'{TRAIN} {flags(TEACHER)}'
GONE_ON = [
    f'{WITH_TEACHER} --workdir=FOLDER/refused --config.distillation.teacher=FOLDER/teacher/checkpoints/8',
    f'{WITH_TEACHER} --workdir=FOLDER/stopped',
    f'{TRAIN} --workdir=FOLDER/changed',
]
WITHOUT_TEACHER = ['eval.py --workdir=FOLDER/straight']
HASHES = ('step', 'params_sha256', 'ema_sha256', 'test_top1', 'test_loss')


@pytest.mark.slow
def test_a_run_with_a_teacher(tmp_path, straight_run, launcher):
    shutil.copytree(straight_run(), tmp_path / 'teacher')  # with checkpoints 8 and 12
    launcher.run_forked([f'{WITH_TEACHER} --workdir=FOLDER/straight'], tmp_path)
    (trained,) = forked_results(tmp_path)
    assert trained['status'] == 0, trained
    assert f"teacher: distillation.teacher='{tmp_path}/teacher'" in trained['output']
    assert 'as teacher' in ' '.join(trained['output'])
    for name in ('stopped', 'refused', 'changed'):
        shutil.copytree(tmp_path / 'straight', tmp_path / name)
        shutil.rmtree(tmp_path / name / 'checkpoints' / '12')

    launcher.run_forked(GONE_ON, tmp_path)
    refused, stopped, changed = forked_results(tmp_path)
    assert (refused['status'], refused['output']) == (2, []), refused
    assert refused['errors'][-1].startswith(
        f"error: distillation.teacher='{tmp_path}/teacher/checkpoints/8' is not the teacher of step 8, from which it "
        'differs in variables. Name that one'
    )
    assert stopped['status'] == 0 and 'going on from the checkpoint of step 8' in stopped['output'], stopped
    ended, straight = read_summary(tmp_path / 'stopped'), read_summary(tmp_path / 'straight')
    assert [ended[name] for name in HASHES] == [straight[name] for name in HASHES]
    assert read_rows(tmp_path / 'stopped') == read_rows(tmp_path / 'straight')
    rows = [row for row in read_rows(tmp_path / 'straight') if row['kind'] == 'train']
    assert len(rows) == 12 and all(0 <= row['agreement'] <= 100 for row in rows)
    # Whoever takes the teacher away is told, and ends elsewhere.
    assert changed['status'] == 0, changed
    line = f"config.distillation.teacher: '' instead of '{tmp_path}/teacher' in checkpoint 8"
    assert any(error.startswith(line[:70]) for error in changed['errors']), changed['errors']
    assert read_summary(tmp_path / 'changed')['params_sha256'] != straight['params_sha256']

    shutil.rmtree(tmp_path / 'teacher')
    launcher.run_forked(WITHOUT_TEACHER, tmp_path)
    (evaluated,) = forked_results(tmp_path)
    assert evaluated['status'] == 0, evaluated
    assert json.loads(evaluated['output'][-1])['top1'] == straight['test_top1']
