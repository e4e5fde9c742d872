"""Starts the project's commands as a person would, and sees to it that every one of them ends. No test in here."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 240  # a process that takes longer is ended, and its test fails

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

    def __init__(self, arguments: list[str], environment: Mapping[str, str], errors: Path):
        self._errors = errors
        self._lines: list[str] = []
        with errors.open('w') as file:
            self._popen = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=environment,
                cwd=ROOT,
            )
        self._watchdog = threading.Timer(LIMIT_SECONDS, self._popen.kill)
        self._watchdog.start()

    def read(self, prefix: str | tuple[str, ...], count: int = 1) -> None:
        """Returns after `count` lines of output that start with `prefix`, or when there is no more."""
        while count and (line := self._popen.stdout.readline()):
            self._lines.append(line.rstrip())
            count -= line.startswith(prefix)

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

    def start(self, *arguments, devices: int = 1, **environment) -> Process:
        """Starts Python with `arguments`, e.g. 'train.py', on `devices` fake devices."""
        logs = self._folder / 'logs'
        logs.mkdir(exist_ok=True)
        process = Process(
            [str(argument) for argument in arguments],
            os.environ | self._environment(devices) | environment,
            logs / f'{os.getpid()}-{len(list(logs.iterdir()))}',
        )
        self._processes.append(process)
        return process

    def run(self, *arguments, **options) -> Ended:
        """Starts a command as `start` does and waits for its end."""
        return self.start(*arguments, **options).end()

    def train(self, workdir: Path, *arguments, fields: Mapping[str, object] = SHORT_RUN, **options) -> Process:
        """Starts train.py on the digits."""
        config = ['--config=configs/digits.py', *(f'--config.{name}={value}' for name, value in fields.items())]
        return self.start('train.py', *config, f'--workdir={workdir}', *arguments, **options)

    def _environment(self, devices: int) -> dict[str, str]:
        return {
            'JAX_PLATFORMS': 'cpu',
            'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
            'JAX_COMPILATION_CACHE_DIR': str(self._folder / 'compiled'),
            'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
            'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
        }


def read_summary(workdir: Path) -> dict:
    """The `summary.json` of a run."""
    return json.loads((workdir / 'summary.json').read_text())


def read_rows(workdir: Path) -> list[dict]:
    """The rows of a run's `metrics.jsonl`, without its speed."""
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != 'images_per_second'} for row in rows]
