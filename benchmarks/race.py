"""Times several programs in turn, A B C A B C ..., so that a machine whose speed drifts slows all of them alike.

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
from typing import Any

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
    """

    name: str
    module: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    keep_memory: bool = False
    root: pathlib.Path = ROOT


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
        print(steps, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline()) / steps

    def end(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()


def race(
    contenders: Sequence[Contender], task: str, options: Mapping[str, Any], *, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Images a second of each contender in each round; those that cannot run here are left out, and named.

    Args:
        contenders: started one after the other, then timed in turn.
        task: the function of their modules.
        options: for all of them; 'batch' is the number of images of a step.
        rounds: how often everyone has its turn.
        seconds: about how long a turn lasts.
    """
    runners, speeds = [], {}
    try:
        for contender in contenders:
            runner = _Runner(contender, task, {**options, **contender.options})
            runners.append(runner)
            if runner.ready():
                once = runner.seconds(1)
                speeds[contender.name] = []
                runner.steps = max(1, round(seconds / once))
            else:
                print(f'cannot run here: {contender.name}', file=sys.stderr)
        for _ in range(rounds):
            for runner in runners:
                if runner.contender.name in speeds:
                    speeds[runner.contender.name].append(options['batch'] / runner.seconds(runner.steps))
    finally:
        for runner in runners:
            runner.end()
    return speeds


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
