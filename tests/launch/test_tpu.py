"""The exact gcloud calls of each action, and what `keep` does when slices go and runs fail."""

import shlex
import subprocess

import pytest

from launch import tpu

PLACE = ['--name=nets', '--zone=europe-west4-a']
TRAIN = ['--config=configs/imagenet/mobilenet_v3_large.py', '--workdir=gs://bucket/run']
TPU_VM = 'gcloud --quiet compute tpus tpu-vm'
QUEUED = 'gcloud --quiet compute tpus queued-resources'
INSTALL = [
    'git archive --format=tar.gz --output=mobilenets_jax.tar.gz HEAD',
    f'{TPU_VM} scp mobilenets_jax.tar.gz nets:mobilenets_jax.tar.gz --zone=europe-west4-a --worker=all',
    f'{TPU_VM} ssh nets --zone=europe-west4-a --worker=all ' + shlex.quote(f'--command={tpu.INSTALL}'),
]
CREATE = f'{TPU_VM} create nets --zone=europe-west4-a --accelerator-type=v3-32 --version=tpu-ubuntu2204-base'
DELETE = f'{TPU_VM} delete nets --zone=europe-west4-a'


def printed(capsys, *words):
    """The lines of a dry run; a call may span several."""
    tpu.main([words[0], '--dry_run', *words[1:]])
    return capsys.readouterr().out.rstrip('\n')


@pytest.mark.parametrize(
    ('words', 'calls'),
    [
        (['create', *PLACE, '--type=v3-32'], [CREATE]),
        (['create', *PLACE, '--type=v3-32', '--spot'], [f'{CREATE} --spot']),
        (
            ['create', *PLACE, '--type=v4-32', '--queued'],
            [
                f'{QUEUED} create nets --node-id=nets --zone=europe-west4-a --accelerator-type=v4-32 '
                '--runtime-version=tpu-ubuntu2204-base',
                f"{QUEUED} describe nets --zone=europe-west4-a '--format=value(state.state)'",
            ],
        ),
        (
            ['create', *PLACE, '--type=v5litepod-16', '--queued', '--spot'],
            [
                f'{QUEUED} create nets --node-id=nets --zone=europe-west4-a --accelerator-type=v5litepod-16 '
                '--runtime-version=v2-alpha-tpuv5-lite --spot',
                f"{QUEUED} describe nets --zone=europe-west4-a '--format=value(state.state)'",
            ],
        ),
        (['install', *PLACE], INSTALL),
        (
            ['logs', *PLACE],
            [f"{TPU_VM} ssh nets --zone=europe-west4-a --worker=0 '--command=tail -n +1 -F mobilenets_jax/train.log'"],
        ),
        (
            ['fetch', '--workdir=gs://bucket/run', '--to=results'],
            ["gcloud --quiet storage rsync --recursive '--exclude=checkpoints/.*' gs://bucket/run results"],
        ),
        (['delete', *PLACE], [DELETE]),
        (['delete', *PLACE, '--queued'], [f'{QUEUED} delete nets --zone=europe-west4-a --force']),
    ],
)
def test_calls(words, calls, capsys):
    assert printed(capsys, *words) == '\n'.join(calls)


def test_start_runs_train_on_all_workers_and_outlives_the_connection(capsys):
    words = shlex.split(printed(capsys, 'start', *PLACE, '--', *TRAIN, '--config.data.dir=gs://bucket/a b'))
    assert words[:-1] == [*TPU_VM.split(), 'ssh', 'nets', '--zone=europe-west4-a', '--worker=all']
    assert words[-1] == (
        "--command=nohup setsid bash -c 'cd mobilenets_jax; .venv/bin/python train.py --multihost "
        f"""{' '.join(TRAIN)} '"'"'--config.data.dir=gs://bucket/a b'"'"' --preempted_status=75; """
        "echo exit status $?' > mobilenets_jax/train.log 2>&1 < /dev/null &"
    )


@pytest.fixture
def keep(monkeypatch):
    """From the answers that gcloud gives, by action, to the status with which `keep` ends and the actions it took."""
    taken = []
    monkeypatch.setattr(tpu, 'POLL_SECONDS', 0)

    def run(answers):
        def call(words, stdout, text):
            asks = '--worker=0' in words
            action = 'archive' if words[0] == 'git' else 'start' if 'train.py' in words[-1] else words[5]
            taken.append('ask' if asks else action)
            left = answers.get(taken[-1])
            return subprocess.CompletedProcess(words, 0, f'{left.pop(0)}\n' if left else None)

        monkeypatch.setattr(subprocess, 'run', call)
        with pytest.raises(SystemExit) as end:
            tpu.main(['keep', *PLACE, '--type=v3-32', '--spot', '--', *TRAIN])
        return end.value.code, ' '.join(taken)

    return run


MAKE = 'delete create archive scp ssh start'


@pytest.mark.parametrize(
    ('states', 'answers', 'status', 'actions'),
    [
        # No slice yet; then the run goes on, and ends.
        (['', 'READY'], ['running', 'exit status 0'], 0, f'describe {MAKE} ask describe ask'),
        # Preempted: a new slice takes over.
        (['READY', 'PREEMPTED'], ['running', 'exit status 0'], 0, f'describe ask describe {MAKE} ask'),
        # Stopped by SIGTERM, or failed, on a slice that is still there.
        (['READY', 'READY'], ['exit status 75', 'exit status 0'], 0, 'describe ask start describe ask'),
        (['READY', 'READY'], ['exit status 1', 'exit status 0'], 0, 'describe ask start describe ask'),
        # Gone without a word, or never started.
        (['READY', 'READY'], ['step 1/9  loss', 'exit status 0'], 0, 'describe ask archive scp ssh start describe ask'),
        (['READY', 'READY'], ['not started', 'exit status 0'], 0, 'describe ask archive scp ssh start describe ask'),
        # The worker cannot be reached at the moment.
        (['READY', 'READY'], ['', 'exit status 0'], 0, 'describe ask describe ask'),
        # A user's mistake would be made again.
        (['READY'], ['exit status 2'], 2, 'describe ask'),
    ],
)
def test_keep_goes_on_until_the_run_is_over(states, answers, status, actions, keep):
    assert keep({'describe': states, 'ask': answers}) == (status, actions)


@pytest.mark.parametrize(
    ('words', 'line'),
    [
        (['create', *PLACE, '--type=v99-8'], 'error: --type=v99-8 is unknown. Known generations: v2, v3, v4, '),
        (['start', *PLACE], 'error: the flags of train.py are missing'),
    ],
)
def test_wrong_words_end_in_one_line(words, line, capsys):
    with pytest.raises(SystemExit) as end:
        tpu.main(words)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(line)
