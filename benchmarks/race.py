"""Times several programs alternately, A B C A B C ..., so that a change of the machine's speed affects all equally.

Every contender is a process of its own: `python benchmarks/contender.py MODULE TASK OPTIONS` makes ready, compiles, and
then does as many steps as each line on its standard input says.
"""

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mobilenets_jax import allocator

ROOT = pathlib.Path(__file__).parents[1]
PAUSE = 0.1  # seconds between turns: threads of ONNX Runtime go on waiting for 50 ms, and would slow whoever is next


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
    """A program in one of its settings.

    Attributes:
        name: in the table.
        module: of `benchmarks.contenders`; has a function for each task that returns what does one step.
        options: for that function.
        keep_memory: whether it is started with `allocator.TUNABLES`.
        root: the checkout that it is started in.
        beside_others: whether it makes ready while others do: its compiler times nothing on the device.
        knows_bytes: whether it is asked for the bytes that a step reads and writes.
    """

    name: str
    module: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    keep_memory: bool = False
    root: pathlib.Path = ROOT
    beside_others: bool = False
    knows_bytes: bool = False


class Results(NamedTuple):
    """Of a race.

    Attributes:
        speeds: images a second of each contender in each round.
        bytes_accessed: of a step, of those that know it.
    """

    speeds: dict[str, list[float]]
    bytes_accessed: dict[str, float]


class _Runner:
    def __init__(self, contender: Contender, task: str, options: Mapping[str, Any]):
        environment = dict(os.environ)
        if contender.keep_memory:
            environment['GLIBC_TUNABLES'] = allocator.TUNABLES
        self.contender = contender
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'benchmarks.contender', contender.module, task, json.dumps(options)],
            cwd=contender.root,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if not os.environ.get('BENCHMARK_ERRORS') else None,
            text=True,
        )

    def ready(self) -> bool:
        """Waits until it has compiled; False where it cannot run here."""
        return any(line == 'ready\n' for line in self._process.stdout)  # others may print before

    def seconds(self, steps: int) -> float:
        """Seconds a step, over `steps` of them."""
        time.sleep(PAUSE)
        return self._ask(steps) / steps

    def bytes_accessed(self) -> float:
        """What the compiler reports that a step reads and writes."""
        return self._ask('bytes')

    def _ask(self, question: int | str) -> float:
        print(question, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def end(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()


def race(
    contenders: Sequence[Contender], task: str, options: Mapping[str, Any], *, rounds: int, seconds: float
) -> Results:
    """Runs the contenders alternately; those that cannot run here are left out, and named.

    Args:
        contenders: started one after the other, but for those that may start beside others, which are first.
        task: the function of their modules.
        options: for all of them; 'batch' is the number of images of a step.
        rounds: how often everyone has its turn.
        seconds: about how long a turn lasts.
    """
    runners: dict[str, _Runner] = {}
    try:
        for contender in sorted(contenders, key=lambda one: not one.beside_others):
            runners[contender.name] = runner = _Runner(contender, task, {**options, **contender.options})
            if not contender.beside_others and not runner.ready():
                _leave_out(runners, contender.name)
        for contender in contenders:
            if contender.beside_others and not runners[contender.name].ready():
                _leave_out(runners, contender.name)
        runners = {contender.name: runners[contender.name] for contender in contenders if contender.name in runners}
        steps = {name: max(1, round(seconds / runner.seconds(1))) for name, runner in runners.items()}
        speeds = {name: [] for name in runners}
        for _ in range(rounds):
            for name, runner in runners.items():
                speeds[name].append(options['batch'] / runner.seconds(steps[name]))
        known = [name for name, runner in runners.items() if runner.contender.knows_bytes]
        return Results(speeds, {name: runners[name].bytes_accessed() for name in known})
    finally:
        for runner in runners.values():
            runner.end()


def _leave_out(runners: dict[str, _Runner], name: str) -> None:
    print(f'cannot run here: {name}', file=sys.stderr)
    runners.pop(name).end()


def table(speeds: Mapping[str, Sequence[float]], ours: str) -> str:
    """A Markdown table: median images a second, and the median over the rounds of our speed over each one's."""
    lines = [
        '| program | images/s (median) | lowest to highest | ours over it (median of ratios) |',
        '|---|---|---|---|',
    ]
    for name, values in speeds.items():
        ratios = [mine / theirs for mine, theirs in zip(speeds[ours], values, strict=True)]
        lines.append(
            f'| {name} | {statistics.median(values):.1f} | {min(values):.1f} to {max(values):.1f} '
            f'| {statistics.median(ratios):.2f} |'
        )
    return '\n'.join(lines)
