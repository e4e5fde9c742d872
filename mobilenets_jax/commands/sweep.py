"""`sweep`: one run for each combination of some values of a config, in folders beside each other.

Each run is a process of its own, started by the usual command for training, so that one that fails or is killed leaves
the others alone. The same command goes on with a sweep: a run that is finished by its summary.json is not started
again, every other one goes on from its checkpoint. This process asks JAX for no devices: they belong to the runs.
"""

import argparse
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from mobilenets_jax.commands.compare import compare
from mobilenets_jax.config import ConfigView, read_json, write_json
from mobilenets_jax.continuation import differences
from mobilenets_jax.errors import RunError, UserError, check

RECORD = 'sweep.json'
PICTURE = 'compare.png'
NAME_BYTES = 255  # of a folder's name, on most file systems
_BRACKETS = {'(': 1, '[': 1, '{': 1, ')': -1, ']': -1, '}': -1}

Point = Mapping[str, str]  # a value, as the command line spells it, for each field by dotted path


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('sweep', help='train once for each combination of values of a config')
    parser.add_argument('--workdir', required=True, metavar='DIR', help='each run gets a folder in it; local or gs://')
    parser.add_argument(
        '--set',
        required=True,
        action='append',
        metavar='FIELD=VALUE,VALUE...',
        help='the values of a field of the config, such as seed=1,2,3; several give all combinations',
    )
    parser.set_defaults(run=run, reads_config=True)


def run(arguments: argparse.Namespace) -> None:
    """Trains what is not finished, then lists and draws all runs; `RunError` where one of them failed."""
    directory = epath.Path(arguments.workdir).expanduser()
    points = named_points([parse_setting(text) for text in arguments.set])
    _record(directory, _checked_config(arguments.config_flags, points), points)
    failed = []
    with ForwardedSignals() as signals:
        for number, (name, point) in enumerate(points.items(), 1):
            finished = _is_finished(directory / name)
            print(f'run {number} of {len(points)}: {name}{" is finished" if finished else ""}', flush=True)
            if not finished:
                status, line = _train(directory / name, [*arguments.config_flags, *_flags(point)], signals)
            if signals.received:
                print(f'stopped by {signals.received}; the same command goes on', flush=True)
                return
            if not finished and not _is_finished(directory / name):
                failed.append(name)
                print(f'failed: {name}, exit status {status}: {line}', file=sys.stderr, flush=True)
    started = [name for name in points if (directory / name / 'metrics.jsonl').exists()]
    if started:
        compare([str(directory / name) for name in started], str(directory / PICTURE))
    if failed:
        raise RunError(f'{len(failed)} of {len(points)} runs failed: {", ".join(failed)}.')


def parse_setting(text: str) -> tuple[str, list[str]]:
    """The field and its values in 'FIELD=VALUE,VALUE'; commas in brackets part no values.

    Raises:
        UserError: there is no field, a value is missing, or one is there twice.
    """
    field, equals, rest = text.partition('=')
    check(bool(field and equals), '--set', text, 'is not of the form FIELD=VALUE,VALUE')
    values, depth = [''], 0
    for letter in rest:
        depth += _BRACKETS.get(letter, 0)
        if letter == ',' and depth == 0:
            values.append('')
        else:
            values[-1] += letter
    check(all(values), '--set', text, 'has a value that is empty')
    check(len({*values}) == len(values), '--set', text, 'has a value twice')
    return field.removeprefix('config.'), values


def named_points(settings: Sequence[tuple[str, Sequence[str]]]) -> dict[str, Point]:
    """All combinations by the name of their run, such as 'batch_size=32,seed=1'; the last field varies first.

    Raises:
        UserError: a field is there twice, or a name is too long or stands for two combinations.
    """
    fields = [field for field, _ in settings]
    for field in fields:
        check(fields.count(field) == 1, '--set', field, 'is given twice')
    points = {}
    for values in itertools.product(*(values for _, values in settings)):
        name = ','.join(f'{field}={value}' for field, value in zip(fields, values, strict=True)).replace('/', '_')
        check(len(os.fsencode(name)) <= NAME_BYTES, '--set', name, 'is too long for the name of a folder')
        check(name not in points, '--set', name, 'would be the folder of two runs')
        points[name] = dict(zip(fields, values, strict=True))
    return points


class ForwardedSignals:
    """While it is entered, hands each signal that asks a run to stop to the run of the moment.

    Attributes:
        received: the name of the first of them; '' if there was none.
    """

    def __init__(self):
        self.received = ''
        self._process: subprocess.Popen | None = None
        self._previous = {}

    def __enter__(self) -> 'ForwardedSignals':
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(signum) != signal.SIG_IGN:
                self._previous[signum] = signal.signal(signum, self._forward)
        return self

    def __exit__(self, *exc_info):
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def attach(self, process: subprocess.Popen) -> None:
        """Hands signals to `process` from now on; also one that came just before."""
        self._process = process
        if self.received:
            process.send_signal(signal.SIGTERM)

    def _forward(self, signum: int, frame) -> None:
        self.received = self.received or signal.Signals(signum).name
        if self._process is not None:
            self._process.send_signal(signum)  # none, where it has ended


def _flags(point: Point) -> list[str]:
    return [f'--config.{field}={value}' for field, value in point.items()]


def _checked_config(flags: Sequence[str], points: Mapping[str, Point]) -> dict[str, Any]:
    """The config that all runs share; raises `UserError` for a field or a value of one of them that cannot be."""
    from mobilenets_jax.cli import read_config  # defines the flags

    for point in points.values():
        config, _ = read_config(['sweep', *flags, *_flags(point)])
        for field in point:
            check(f'config.{field}' in ConfigView(config).leaves(), '--set', field, 'is a section of the config')
    config, given = read_config(['sweep', *flags])
    for field in next(iter(points.values())):
        check(field not in given, f'--config.{field}', given.get(field), 'is set by --set, too')
    return config


def _record(directory: epath.Path, config: Mapping[str, Any], points: Mapping[str, Point]) -> None:
    """Writes what the sweep is; raises `UserError` where its folder is that of another one."""
    path = directory / RECORD
    try:
        found = read_json(path)
    except FileNotFoundError:
        found = {'config': config, 'runs': {}}
    try:
        changes, runs = differences(config, found['config']), dict(found['runs'])
    except (LookupError, TypeError, AttributeError) as error:
        raise UserError(f'{path} is no record of a sweep.') from error
    if changes:
        change = changes[0]
        raise UserError(
            f'config.{change.path}={change.now!r}, but {change.before!r} in {path}: its finished runs would not be '
            'made again. Give the sweep a folder of its own.'
        )
    directory.mkdir(parents=True, exist_ok=True)
    write_json(path, {'config': config, 'runs': {**runs, **points}})


def _is_finished(workdir: epath.Path) -> bool:
    """Whether a run says that it went to its end."""
    try:
        summary = read_json(workdir / 'summary.json')
    except (FileNotFoundError, UserError):
        return False
    return isinstance(summary, dict) and summary.get('finished') is True


def _train(workdir: epath.Path, flags: Sequence[str], signals: ForwardedSignals) -> tuple[int, str]:
    """Trains in a process of its own; returns its exit status and the last line of its standard error."""
    command = [sys.executable, '-m', 'mobilenets_jax', 'train', f'--workdir={workdir}', *flags]
    last_line = ''
    # In a process group of its own: Ctrl-C reaches it through this process alone, since a second one would end it.
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors='replace', process_group=0) as process:
        signals.attach(process)
        for line in process.stderr:
            print(line, end='', file=sys.stderr, flush=True)
            last_line = line.strip() or last_line
    return process.returncode, last_line
