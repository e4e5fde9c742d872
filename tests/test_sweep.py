"""`sweep`: which runs there are, which of them are started, and how each is told what to train."""

import json

import pytest

from mobilenets_jax.__main__ import main
from mobilenets_jax.commands import sweep
from mobilenets_jax.commands.sweep import named_points, parse_setting
from mobilenets_jax.errors import UserError

CONFIG = '--config=configs/digits.py'


@pytest.mark.parametrize(
    ('text', 'field', 'values'),
    [
        ('seed=1', 'seed', ['1']),
        ('config.schedule.learning_rate=0.05,1e-3', 'schedule.learning_rate', ['0.05', '1e-3']),
        (
            "optimizer.rate_factors=(('backbone', 0.1),),((), [1, 2])",
            'optimizer.rate_factors',
            ["(('backbone', 0.1),)", '((), [1, 2])'],
        ),
        ('data.train_split=train[:80%],a=b', 'data.train_split', ['train[:80%]', 'a=b']),
    ],
)
def test_values_are_parted_at_commas_outside_of_brackets(text, field, values):
    assert parse_setting(text) == (field, values)


@pytest.mark.parametrize('text', ['seed', '=1', 'seed=', 'seed=1,,2', 'seed=1,2,1'])
def test_a_setting_of_another_form_is_refused(text):
    with pytest.raises(UserError, match=f'^--set={text!r} '):
        parse_setting(text)


def test_all_combinations_have_a_name():
    points = named_points([('model.spec_file', ['a/b.json']), ('batch_size', ['8', '16']), ('seed', ['1', '2'])])
    assert list(points) == [
        'model.spec_file=a_b.json,batch_size=8,seed=1',
        'model.spec_file=a_b.json,batch_size=8,seed=2',
        'model.spec_file=a_b.json,batch_size=16,seed=1',
        'model.spec_file=a_b.json,batch_size=16,seed=2',
    ]
    assert list(points.values())[2] == {'model.spec_file': 'a/b.json', 'batch_size': '16', 'seed': '1'}
    for settings in ([('seed', ['1']), ('seed', ['2'])], [('data.dir', ['a/b', 'a_b'])], [('data.dir', ['x' * 255])]):
        with pytest.raises(UserError, match='^--set='):
            named_points(settings)


@pytest.fixture
def trained(monkeypatch):
    """The runs that are started: a folder's name, and flags. Each ends at once, finished unless its seed is 2."""
    started = []

    def train(workdir, flags, signals):
        started.append((workdir.name, flags))
        workdir.mkdir(exist_ok=True)
        rows = [{'kind': 'eval', 'step': 1, 'top1': 50.0, 'loss': 1.0}]
        (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
        (workdir / 'summary.json').write_text(json.dumps({'finished': 'seed=2' not in workdir.name}))
        return (3, 'error: of seed 2') if 'seed=2' in workdir.name else (0, '')

    monkeypatch.setattr(sweep, '_train', train)
    return started


def test_unfinished_runs_are_started_and_failures_are_said(trained, tmp_path, capsys):
    command = ['sweep', CONFIG, f'--workdir={tmp_path}/s', '--set=seed=1,2', '--config.batch_size=8']
    assert main([*command, '--set=model.width_multiplier=0.25,0.5']) == 1
    flags = [CONFIG, '--config.batch_size=8']
    names = [f'seed={seed},model.width_multiplier={width}' for seed in '12' for width in ('0.25', '0.5')]
    assert [name for name, _ in trained] == names
    assert trained[1][1] == [*flags, '--config.seed=1', '--config.model.width_multiplier=0.5']
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        *(f'failed: {name}, exit status 3: error: of seed 2' for name in names[2:]),
        f'error: 2 of 4 runs failed: {names[2]}, {names[3]}.',
    ]
    table = [line.split() for line in said.out.splitlines() if line.startswith('seed=')]
    assert [row[0] for row in table] == names and (tmp_path / 's' / 'compare.png').stat().st_size > 1000
    # The same command, with another value: what is finished is left alone.
    trained.clear()
    assert main([*command, '--set=model.width_multiplier=0.25,0.5,1.0']) == 1
    assert [name for name, _ in trained] == [
        'seed=1,model.width_multiplier=1.0',
        *names[2:],
        'seed=2,model.width_multiplier=1.0',
    ]
    assert f'run 2 of 6: {names[1]} is finished\n' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        (['--set=sead=1'], "config.sead is no field of the config. Did you mean 'seed'?"),
        (['--set=schedule=1'], 'schedule'),
        (['--set=seed=1,two'], 'two'),
        (['--set=seed=1', '--config.seed=3'], '--config.seed=3 is set by --set, too.'),
        (['--set=seed=1', '--workdirs=3'], 'workdirs'),
    ],
)
def test_a_wrong_field_or_value_ends_it_before_any_run(flags, said, trained, tmp_path, capsys):
    assert main(['sweep', CONFIG, f'--workdir={tmp_path}/s', *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ') and said in line
    assert not trained and not (tmp_path / 's').exists()


def test_a_folder_belongs_to_one_config(trained, tmp_path, capsys):
    command = ['sweep', CONFIG, f'--workdir={tmp_path}', '--set=seed=1']
    assert main(command) == 0
    assert main([*command, '--config.num_steps=7']) == 2
    assert capsys.readouterr().err == (
        f'error: config.num_steps=7, but 540 in {tmp_path}/sweep.json: its finished runs would not be made again. '
        'Give the sweep a folder of its own.\n'
    )
