"""A run goes on with another config, or is refused and left as it was; each checkpoint keeps the config it is of."""

import json
import shutil
from pathlib import Path

import pytest
from launching import SHORT_RUN, forked_results, read_rows, read_state, read_summary


def flags(fields):
    return ' '.join(f'--config.{name}={value}' for name, value in fields.items())


TRAIN = f'train.py --config=configs/digits.py {flags(SHORT_RUN)}'
STEP = 'in checkpoint 12, whose state does not fit. Set it back, or give the run a workdir of its own, which init_from'
# What is appended to the command of a run of 12 steps, and how the line that refuses it starts.
REFUSED = {
    '--config.optimizer.name=adamw': f"config.optimizer.name: 'adamw' instead of 'rmsprop' {STEP}",
    '--config.ema.decay=0 --config.seed=1': f'config.ema.decay: 0.0 instead of 0.99 {STEP}',
    '--config.num_steps=8': 'num_steps=8 is behind the checkpoint, which has 12 steps.',
    '--config.model.num_removed_strides=1': 'checkpoint {}/checkpoints/12 holds mobilenet_v1 (num_removed_strides=0); ',
    '--config.init_from=weights.h5': "init_from='weights.h5' has no effect on a run that goes on from checkpoint 12",
    '--config.optimizer.beta1=0.5': "optimizer.beta1=0.5 has no effect with optimizer.name='rmsprop'",
    '--config.batch_size=0': 'batch_size=0 must be positive.',
}
CHANGED = flags({
    'num_steps': None, 'num_epochs': 0.2, 'batch_size': 16, 'optimizer.accumulation_steps': 2, 'image_size': 24,
    'seed': 1, 'schedule.learning_rate': 0.001, 'log.every_steps': 2, 'checkpoint.keep_last': 9,
})  # fmt: skip
STEPS = 17  # 0.2 epochs of 1437 images in batches of 16
COMMANDS = [
    *(f'{TRAIN} --workdir=FOLDER/refused {arguments}' for arguments in REFUSED),
    f'{TRAIN} --workdir=FOLDER/changed {CHANGED}',
    'eval.py --workdir=FOLDER/changed',
    'eval.py --checkpoint=FOLDER/changed/checkpoints/12',
    'eval.py --workdir=FOLDER/broken',
    'eval.py --workdir=FOLDER/broken --config.model.dtype=float16',
]


@pytest.fixture
def results(made_once, launcher, straight_run):
    """The folder of the runs, where it was made, and the results of `COMMANDS`."""
    straight = straight_run()

    def run_all(folder):
        for name in ('refused', 'changed', 'broken'):
            shutil.copytree(straight, folder / name)
        with (folder / 'changed' / 'metrics.jsonl').open('ab') as file:
            file.write(bytes(40) + b'\n["foreign"]\n{"kind": "train", "st')
        (folder / 'broken' / 'config.json').write_text('{"model": {"name": "mobilenet_v3_')
        (folder / 'folder').write_text(str(folder))
        launcher.run_forked(COMMANDS, folder)

    folder = made_once('changed_runs', run_all)
    results = forked_results(folder)
    return folder, (folder / 'folder').read_text(), dict(zip(COMMANDS, results, strict=True))


def files_of(workdir):
    return {path.relative_to(workdir): path.read_bytes() for path in workdir.rglob('*') if path.is_file()}


def test_refused_run_is_one_line_and_leaves_the_workdir_as_it_was(results, straight_run):
    folder, made_in, by_command = results
    for arguments, line in REFUSED.items():
        result = by_command[f'{TRAIN} --workdir=FOLDER/refused {arguments}']
        assert (result['status'], result['output']) == (2, []), result
        (error,) = result['errors']
        assert error.startswith(f'error: {line}'.format(f'{made_in}/refused')), error
    straight = files_of(straight_run())
    del straight[Path('compile.log')]
    left = files_of(folder / 'refused')
    del left[Path('compile.log')]
    assert left == straight


def test_resumed_run_uses_and_names_the_changed_fields(results, straight_run):
    folder, made_in, by_command = results
    result = by_command[COMMANDS[len(REFUSED)]]
    assert result['status'] == 0, result
    assert result['errors'] == [
        f'WARNING: {made_in}/changed/metrics.jsonl: 3 of 17 lines cannot be read and are left out, first line 15; '
        'the file as it was is kept as metrics.damaged.jsonl',
        'config.batch_size: 16 instead of 32 in checkpoint 12',
        'config.image_size: 24 instead of 32 in checkpoint 12',
        'config.num_epochs: 0.2 instead of None in checkpoint 12',
        'config.num_steps: None instead of 12 in checkpoint 12',
        'config.optimizer.accumulation_steps: 2 instead of 1 in checkpoint 12',
        'config.schedule.learning_rate: 0.001 instead of 0.006 in checkpoint 12',
        'config.seed: 1 instead of 0 in checkpoint 12',
        'config.checkpoint.keep_last: 9 instead of 2 in checkpoint 12',
        '1 more field(s) of the config differ from checkpoint 12: log.every_steps',
    ]
    assert 'going on from the checkpoint of step 12' in result['output']
    workdir = folder / 'changed'
    assert json.loads((workdir / 'config.json').read_text())['seed'] == 1
    assert int(read_state(workdir, STEPS)['step']) == STEPS
    rows = read_rows(workdir)
    assert rows[:14] == read_rows(straight_run())
    assert [(row['kind'], row['step']) for row in rows[14:]] == [
        ('train', 14), ('train', 16), ('train', 17), ('eval', 17)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('command', 'step', 'run'), [(COMMANDS[-4], STEPS, 'changed'), (COMMANDS[-3], 12, ''), (COMMANDS[-2], 12, '')]
)
def test_checkpoint_is_evaluated_with_the_config_that_it_was_saved_with(command, step, run, results, straight_run):
    """Images of 24 pixels belong to step 17, of 32 to step 12; config.json has no say, whatever became of it."""
    folder, _, by_command = results
    result = by_command[command]
    assert (result['status'], result['errors']) == (0, []), result
    evaluated = json.loads(result['output'][-1])
    summary = read_summary(folder / run if run else straight_run())
    assert evaluated['step'] == step
    assert [evaluated[name] for name in ('top1', 'top5', 'loss')] == [
        summary[f'test_{name}'] for name in ('top1', 'top5', 'loss')
    ]


def test_half_precision_that_is_not_trained_is_evaluated(results, straight_run):
    _, _, by_command = results
    result = by_command[COMMANDS[-1]]
    assert (result['status'], result['errors']) == (0, []), result
    assert json.loads(result['output'][-1])['loss'] == pytest.approx(
        read_summary(straight_run())['test_loss'], rel=1e-2
    )
