"""Starts the project's commands as a person would, and ends every one of them in the end. No test in here."""

import dataclasses
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import quick_compile

from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.training.progress import TIMING_METRICS

ROOT = Path(__file__).parents[2]
WITHOUT_TENSORFLOW = Path(__file__).with_name('without_tensorflow')
FORKING_WORKER = Path(__file__).with_name('forking_worker.py')
LIMIT_SECONDS = 600  # a process that takes longer, though the machine be busy, is ended, and its test fails

# A command inherits what is ignored here, by nohup or a shell's background; what is handled is its own again.
for _signum in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_signum) == signal.SIG_IGN:
        signal.signal(_signum, lambda signum, frame: None)

# A small network with all on that a restart could get wrong: dropout, augmentation, averages, a schedule.
SHORT_RUN = {
    'model.name': 'mobilenet_v1',
    'model.width_multiplier': 0.25,
    'model.dropout_rate': 0.2,
    'batch_size': 32,
    'num_steps': 12,
    'schedule.warmup_steps': 2,
    'log.every_steps': 1,
    'evaluation.every_steps': 6,
    'checkpoint.every_steps': 4,
}

# For comparing layouts, whose sums over devices round differently. A fresh network of 27 layers without shortcuts is
# chaotic: at the usual learning rate a difference of 1e-15 grows to 1e-2 within 15 steps.
PRECISE_RUN = SHORT_RUN | {
    'model.dtype': 'float64',
    'schedule.learning_rate': 1e-4,
    'image_size': 16,
    'num_steps': 8,
    'evaluation.every_steps': 4,
    'checkpoint.every_steps': 3,
}


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status, or minus the signal, and the lines that it wrote."""

    status: int
    output: list[str]
    errors: list[str]

    def __str__(self) -> str:
        return f'exit status {self.status}\n' + '\n'.join(self.output + self.errors[-30:])


class Process:
    """A running command whose standard output is read line by line."""

    def __init__(
        self, arguments: list[str], environment: Mapping[str, str], errors: Path, pass_fds: Sequence[int] = ()
    ):
        self._errors = errors
        self._lines: list[str] = []
        with errors.open('w') as file:
            self._popen = subprocess.Popen(
                arguments,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=environment,
                cwd=ROOT,
                pass_fds=pass_fds,
            )
        self._watchdog = threading.Timer(LIMIT_SECONDS, self._popen.kill)
        self._watchdog.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._popen.pid

    def read(self, prefix: str | tuple[str, ...], count: int = 1) -> str:
        """Returns the last of `count` lines of output that start with `prefix`, or '' if there are fewer."""
        last = ''
        while count and (line := self._popen.stdout.readline()):
            self._lines.append(line.rstrip())
            if line.startswith(prefix):
                count, last = count - 1, self._lines[-1]
        return '' if count else last

    def send(self, signum: int) -> None:
        """Sends a signal, unless the process has ended already."""
        self._popen.send_signal(signum)

    def end(self) -> Ended:
        """Waits for the end."""
        self._lines += self._popen.stdout.read().splitlines()
        status = self._popen.wait()
        self._watchdog.cancel()
        return Ended(status, self._lines, self._errors.read_text().splitlines())

    def kill(self) -> None:
        """Ends the process whatever it does."""
        self._popen.kill()
        self._popen.wait()
        self._popen.stdout.close()
        self._watchdog.cancel()


class Launcher:
    """Starts commands on fake devices, and ends those still running when it is left."""

    def __init__(self, folder: Path):
        """Keeps error output in `folder`/logs, and compiled programs in `folder`/compiled for all commands."""
        self._folder = folder
        self._processes: list[Process] = []

    def __enter__(self) -> 'Launcher':
        return self

    def __exit__(self, *exc_info):
        for process in self._processes:
            process.kill()

    def start(
        self,
        *arguments,
        devices: int = 1,
        python: str = sys.executable,
        pass_fds: Sequence[int] = (),
        **environment,
    ) -> Process:
        """Starts Python with `arguments`, e.g. 'train.py'.

        Args:
            *arguments: as in the shell, turned into strings.
            devices: fake ones.
            python: the interpreter, perhaps with another JAX.
            pass_fds: open descriptors that it shall have, too.
            **environment: more variables.
        """
        flags = quick_compile.FLAGS if python == sys.executable else quick_compile.FLAGS_OF_ALL

        logs = self._folder / 'logs'
        logs.mkdir(exist_ok=True)
        settings = {
            'JAX_PLATFORMS': 'cpu',
            'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices} {flags}',
            'JAX_COMPILATION_CACHE_DIR': str(self._folder / 'compiled'),
            'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
            'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
        }
        process = Process(
            [python, *map(str, arguments)],
            os.environ | settings | environment,
            logs / f'{os.getpid()}-{len(list(logs.iterdir()))}',
            pass_fds,
        )
        self._processes.append(process)
        return process

    def run(self, *arguments, **options) -> Ended:
        """Starts a command as `start` does and waits for its end."""
        return self.start(*arguments, **options).end()

    def run_forked(self, commands: Sequence[str], folder: Path, **options) -> None:
        """Runs commands one after the other as forks of one process; `forked_results` reads what became of them.

        Args:
            commands: e.g. 'train.py --workdir=FOLDER/run', in which FOLDER stands for `folder`.
            folder: where commands and results are kept.
            **options: as of `start`.
        """
        split = [command.replace('FOLDER', str(folder)).split() for command in commands]
        (folder / 'commands.json').write_text(json.dumps(split))
        ended = self.run(FORKING_WORKER, folder / 'commands.json', folder / 'results.json', **options)
        assert ended.status == 0, ended

    def train(
        self,
        workdir: Path,
        *arguments,
        fields: Mapping[str, object] = SHORT_RUN,
        script: Sequence[object] = ('train.py',),
        **options,
    ) -> Process:
        """Starts train.py, or a script like it, on the digits, where TensorFlow cannot be imported."""
        config = ['--config=configs/digits.py', *(f'--config.{name}={value}' for name, value in fields.items())]
        double = fields.get('model.dtype') == 'float64'
        environment = {'JAX_ENABLE_X64': str(int(double)), 'PYTHONPATH': str(WITHOUT_TENSORFLOW)}
        return self.start(*script, *config, f'--workdir={workdir}', *arguments, **environment, **options)


def forked_results(folder: Path) -> list[dict]:
    """What became of each command of `Launcher.run_forked`: its 'status', and the lines of 'output' and 'errors'."""
    return json.loads((folder / 'results.json').read_text())


def coordinates(processes: int = 2) -> list[list[str]]:
    """The flags of each of some processes that find each other."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        port = listener.getsockname()[1]
    together = [f'--coordinator=127.0.0.1:{port}', f'--num_processes={processes}', '--heartbeat_timeout_seconds=20']
    return [[*together, f'--process_id={rank}'] for rank in range(processes)]


def end_of(processes: Sequence[Process]) -> Ended:
    """How the first of some processes ended. All must succeed, and the others leave the speaking to it."""
    first, *others = (process.end() for process in processes)
    assert {end.status for end in (first, *others)} == {0}, '\n'.join(map(str, (first, *others)))
    assert [line for end in others for line in end.output if 'step' in line] == []
    return first


def read_summary(workdir: Path) -> dict:
    """The `summary.json` of a run."""
    return json.loads((workdir / 'summary.json').read_text())


def read_rows(workdir: Path) -> list[dict]:
    """The rows of a run's `metrics.jsonl`, without its speed and times."""
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMING_METRICS} for row in rows]


def read_state(workdir: Path, step: int) -> dict:
    """The arrays of a run's checkpoint, by the names of the state's fields."""
    with CheckpointManager(workdir / 'checkpoints', identity=None, read_only=True) as checkpoints:
        return checkpoints.restore(None, step=step).state


def assert_states_agree(one: dict, other: dict) -> None:
    """Asserts that two states of runs in double precision are equal, except for rounding."""
    for field in ('params', 'batch_stats', 'ema_params', 'ema_batch_stats'):
        assert {leaf.dtype.name for leaf in jax.tree.leaves(one[field])} == {'float64'}
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-10), one[field], other[field])
