"""The gcloud calls of each step of the launcher, and what it does when gcloud fails."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import tpu

ROOT = Path(__file__).parents[2]
PLACE = ['--name=nets', '--zone=europe-west4-a']
TRAIN = ['--config=configs/imagenet/mobilenet_v3_large.py', '--workdir=gs://bucket/run']
TPU_VM = 'gcloud --quiet compute tpus tpu-vm'
QUEUED = 'gcloud --quiet compute tpus queued-resources'
LIST = f"{TPU_VM} list --zone=europe-west4-a '--format=value(name.basename(),state)'"
LIST_QUEUED = f"{QUEUED} list --zone=europe-west4-a '--format=value(name.basename(),state.state)'"
CREATE = f'{TPU_VM} create nets --zone=europe-west4-a --accelerator-type=v3-32 --version=tpu-ubuntu2204-base'
CREATE_QUEUED = f'{QUEUED} create nets --node-id=nets --zone=europe-west4-a'
SECONDS = 30  # that a run on a worker may take to begin or to end

# What gcloud says on a bad day, and its status.
UNAVAILABLE = ('ERROR: (gcloud.compute.tpus.tpu-vm.list) UNAVAILABLE: 503 Service Unavailable', 1)
EXPIRED = ('ERROR: There was a problem refreshing your current auth tokens: invalid_grant', 1)
NO_CAPACITY = ('ERROR: There is no more capacity in the zone "europe-west4-a"', 1)
UNREACHABLE = ('ERROR: [0] ssh: connect to host 10.0.0.1 port 22: Connection timed out', 255)

# Stands for the environment on a worker: a train.py that trains until SIGTERM, or ends at once as its flags say.
PYTHON = """#!/bin/bash
echo training "$@"
case "$*" in *--config=mistake*) exit 2;; esac
trap 'echo saved; exit 75' TERM
while true; do sleep 0.1; done
"""


def printed(capsys, *words):
    """The calls of a dry run; one may span several lines."""
    assert tpu.main([words[0], '--dry_run', *words[1:]]) == 0
    return capsys.readouterr().out.rstrip('\n')


@pytest.mark.parametrize(
    ('words', 'calls'),
    [
        (['create', *PLACE, '--type=v3-32'], [LIST, CREATE]),
        (['create', *PLACE, '--type=v3-32', '--spot'], [LIST, f'{CREATE} --spot']),
        (
            ['create', *PLACE, '--type=v4-32', '--queued'],
            [LIST_QUEUED, f'{CREATE_QUEUED} --accelerator-type=v4-32 --runtime-version=tpu-ubuntu2204-base'],
        ),
        (
            ['create', *PLACE, '--type=v5litepod-16', '--queued', '--spot'],
            [
                LIST_QUEUED,
                f'{CREATE_QUEUED} --accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --spot',
            ],
        ),
        (
            ['logs', *PLACE],
            [f"{TPU_VM} ssh nets --zone=europe-west4-a --worker=0 '--command=tail -n +1 -F mobilenets_jax/train.log'"],
        ),
        (
            ['fetch', '--workdir=gs://bucket/run', '--to=results'],
            ["gcloud --quiet storage rsync --recursive '--exclude=checkpoints/.*' gs://bucket/run results"],
        ),
        (['delete', *PLACE], [LIST, f'{TPU_VM} delete nets --zone=europe-west4-a']),
        (['delete', *PLACE, '--queued'], [LIST_QUEUED, f'{QUEUED} delete nets --zone=europe-west4-a --force']),
    ],
)
def test_calls(words, calls, capsys):
    assert printed(capsys, *words) == '\n'.join(calls)


class Gcloud:
    """The launcher in a small separate repository, with a gcloud that fails on request."""

    def __init__(self, folder: Path):
        self.folder = folder / 'gcloud'
        self.repository = folder / 'repository'
        self._programs = folder / 'bin'
        for path in (self.folder, self._programs, self.repository / 'launch'):
            path.mkdir(parents=True)
        self.program('gcloud', f'#!/bin/bash\nexec {sys.executable} {ROOT}/tests/launch/fake_gcloud.py "$@"\n')
        # Of `INSTALL`, whose environment is made by uv.
        self.program('python3', f'#!/bin/bash\nmkdir -p .venv/bin && cp {self._programs}/train .venv/bin/python\n')
        self.program('train', PYTHON)
        shutil.copy(ROOT / 'launch' / 'tpu.py', self.repository / 'launch')
        (self.repository / 'old.py').touch()
        self.git('init', '--quiet')
        self.commit()

    def program(self, name: str, text: str) -> None:
        path = self._programs / name
        path.write_text(text)
        path.chmod(0o755)

    def git(self, *words: str) -> None:
        who = ['-c', 'user.name=test', '-c', 'user.email=test@example.com']
        subprocess.run(['git', '-C', self.repository, *who, *words], check=True)

    def commit(self) -> None:
        self.git('add', '--all')
        self.git('commit', '--quiet', '--message=test')

    def tell(self, name: str, values: dict) -> None:
        (self.folder / name).write_text(json.dumps(values))

    def __call__(self, *words: str, path: str | None = None) -> tuple[int, str, list[str]]:
        """The status, the last line of standard error, and the actions that gcloud was asked for."""
        calls = self.folder / 'calls'
        calls.write_text('')
        variables = os.environ | {
            'FAKE_GCLOUD': str(self.folder),
            'PATH': path or f'{self._programs}:{os.environ["PATH"]}',
            'TMPDIR': str(self.folder),
        }
        program = [sys.executable, self.repository / 'launch' / 'tpu.py', *words]
        ended = subprocess.run(program, env=variables, capture_output=True, text=True, timeout=120)
        assert 'Traceback' not in ended.stderr
        actions = [line.removeprefix('compute tpus ').split()[1] for line in calls.read_text().splitlines()]
        return ended.returncode, (ended.stderr.splitlines() or [''])[-1], actions

    def log(self, worker: int) -> str:
        path = self.folder / f'worker_{worker}' / 'mobilenets_jax' / 'train.log'
        return path.read_text() if path.exists() else ''

    def wait_for(self, text: str, times: int = 1) -> None:
        """Waits until all workers have logged a text so often."""
        for worker in (0, 1):
            deadline = time.monotonic() + SECONDS
            while self.log(worker).count(text) < times:
                assert time.monotonic() < deadline, self.log(worker)
                time.sleep(0.05)


@pytest.fixture
def gcloud(tmp_path):
    fake = Gcloud(tmp_path)
    yield fake
    fake('stop', *PLACE)


def test_create_makes_a_slice_once(gcloud):
    assert gcloud('create', *PLACE, '--type=v3-32') == (0, 'nets: READY', ['list', 'create'])
    assert gcloud('create', *PLACE, '--type=v3-32') == (0, 'nets: READY', ['list'])


@pytest.mark.parametrize('failure', [UNAVAILABLE, EXPIRED])
@pytest.mark.parametrize('words', [['create', *PLACE, '--type=v3-32'], ['delete', *PLACE]])
def test_a_question_that_fails_changes_nothing(failure, words, gcloud):
    slices = {'tpu-vm': {'nets': 'READY', 'nets-2': 'READY'}}
    gcloud.tell('slices.json', slices)
    gcloud.tell('failures.json', {'list': [failure]})
    status, line, actions = gcloud(*words)
    assert (status, actions) == (1, ['list'])
    assert line == 'error: gcloud compute tpus tpu-vm list: status 1; the same command may be given again'
    assert json.loads((gcloud.folder / 'slices.json').read_text()) == slices


def test_create_without_capacity_can_be_given_again(gcloud):
    gcloud.tell('failures.json', {'create': [NO_CAPACITY]})
    status, line, _ = gcloud('create', *PLACE, '--type=v3-32')
    assert (status, line.partition(':')[0]) == (1, 'error')
    assert gcloud('create', *PLACE, '--type=v3-32') == (0, 'nets: READY', ['list', 'create'])


@pytest.mark.parametrize('state', ['PREEMPTED', 'TERMINATED', 'FAILED', 'SUSPENDED'])
def test_a_slice_that_is_gone_is_named_and_left_alone(state, gcloud):
    gcloud.tell('slices.json', {'tpu-vm': {'nets': state}})
    line = 'it will not come back; launch/tpu.py delete removes it'
    assert gcloud('create', *PLACE, '--type=v3-32') == (1, line, ['list'])


def test_a_queued_slice_is_asked_for_once_and_used_when_it_is_there(gcloud):
    words, waiting = ['create', *PLACE, '--type=v3-32', '--queued'], 'not there yet; the same command asks again'
    assert gcloud(*words) == (1, waiting, ['list', 'create'])
    assert gcloud(*words) == (1, waiting, ['list'])
    gcloud.tell('slices.json', {'queued-resources': {'nets': 'ACTIVE'}})
    assert gcloud(*words) == (0, 'nets: ACTIVE', ['list'])


def test_delete_can_be_given_again(gcloud):
    gcloud.tell('slices.json', {'tpu-vm': {'nets': 'READY', 'nets-2': 'READY'}})
    gcloud.tell('failures.json', {'delete': [UNAVAILABLE]})
    assert gcloud('delete', *PLACE)[0] == 1
    assert gcloud('delete', *PLACE) == (0, '', ['list', 'delete'])
    assert gcloud('delete', *PLACE) == (0, 'nets: there is none in europe-west4-a', ['list'])
    assert json.loads((gcloud.folder / 'slices.json').read_text()) == {'tpu-vm': {'nets-2': 'READY'}}


def test_install_takes_the_committed_files_and_names_the_others(gcloud):
    (gcloud.repository / 'new.py').touch()
    line = 'not installed, as not committed: new.py'
    assert gcloud('install', *PLACE) == (0, line, ['scp', 'ssh'])
    folder = gcloud.folder / 'worker_1' / 'mobilenets_jax'
    assert (folder / 'old.py').exists() and not (folder / 'new.py').exists()
    (folder / 'train.log').write_text('earlier')
    (gcloud.repository / 'old.py').unlink()
    gcloud.commit()
    assert gcloud('install', *PLACE) == (0, '', ['scp', 'ssh'])
    assert (folder / 'new.py').exists() and not (folder / 'old.py').exists()
    assert (folder / 'train.log').read_text() == 'earlier'


@pytest.mark.parametrize('action', ['scp', 'ssh'])
def test_install_fails_with_any_worker_and_can_be_given_again(action, gcloud):
    gcloud.tell('failures.json', {action: [UNREACHABLE]})
    status, line, _ = gcloud('install', *PLACE)
    assert (status, line.startswith(f'error: gcloud compute tpus tpu-vm {action} ')) == (1, True)
    assert gcloud('install', *PLACE)[0] == 0


def test_a_run_is_started_once_stopped_and_goes_on_with_its_log(gcloud):
    assert gcloud('install', *PLACE)[0] == 0
    assert gcloud('start', *PLACE, '--', *TRAIN, '--config.data.dir=gs://bucket/a b')[0] == 0
    command = shlex.join(['train.py', '--multihost', *TRAIN, '--config.data.dir=gs://bucket/a b'])
    gcloud.wait_for(f'training {command.replace(chr(39), "")} --preempted_status=75')
    for again in (['start', *PLACE, '--', *TRAIN], ['install', *PLACE]):
        status, _, _ = gcloud(*again)
        assert status == 1
    gcloud.wait_for(f'.venv/bin/python {command}')  # as a user can give it again
    assert gcloud('stop', *PLACE)[0] == 0
    gcloud.wait_for('saved\nexit status 75\n')
    assert gcloud('stop', *PLACE)[0] == 0  # does nothing
    assert gcloud('start', *PLACE, '--', '--config=mistake')[0] == 0
    gcloud.wait_for('exit status 2\n')
    assert all(gcloud.log(worker).count('training') == 2 for worker in (0, 1))


def test_fetch_can_be_given_again(gcloud, tmp_path):
    gcloud.tell('failures.json', {'rsync': [UNAVAILABLE]})
    words = ['fetch', '--workdir=gs://bucket/run', f'--to={tmp_path / "results"}']
    assert gcloud(*words)[0] == 1
    assert gcloud(*words) == (0, '', ['rsync'])


def test_a_missing_gcloud_is_one_line(gcloud, tmp_path):
    line = 'error: gcloud cannot be run: No such file or directory'
    assert gcloud('delete', *PLACE, path=str(tmp_path / 'nowhere')) == (1, line, [])


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
