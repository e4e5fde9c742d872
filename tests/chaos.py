"""Twenty faults happen to one run, each at another moment; its end is compared with that of a run that was left alone.

`python tests/chaos.py [SEED]`, or `make chaos`. Most faults come shortly after a random step, where they hit steps,
evaluations and saves as it happens; some kills come while a process starts. Ends with status 0 if nothing was lost.
"""

import dataclasses
import json
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / 'end_to_end')]

import numpy as np  # noqa: E402
from launching import SHORT_RUN, Ended, Launcher, Process, read_rows, read_summary  # noqa: E402
from PIL import Image  # noqa: E402

from mobilenets_jax.checkpoints import verify_manifest  # noqa: E402

STEPS = 240
FIELDS = SHORT_RUN | {
    'num_steps': STEPS,
    'evaluation.every_steps': 40,
    'checkpoint.every_steps': 8,
    'data.name': 'memory_folder',
}
SAME = ('step', 'params_sha256', 'ema_sha256', 'test_top1', 'test_loss', 'test_count')
MAX_LINES = 5  # of errors, whatever happens


@dataclasses.dataclass
class Run:
    """A run that faults happen to.

    Attributes:
        launcher: starts its processes.
        workdir: of the run.
        data: the folder of its images.
        not_evaluated: the steps at which a signal stopped it: an evaluation that is due there is left out.
        known_from: rows of the metrics up to this step may have been lost with a damaged log.
    """

    launcher: Launcher
    workdir: Path
    data: Path
    not_evaluated: set[int] = dataclasses.field(default_factory=set)
    known_from: int = 0

    def start(self) -> Process:
        """Starts a process that goes on with the run."""
        return self.launcher.train(self.workdir, fields=FIELDS | {'data.dir': self.data})

    def start_until(self, step: int) -> tuple[Process, str]:
        """Starts a process and waits until shortly after a step; also says so."""
        process = self.start()
        while line := process.read('step'):
            if int(re.match(r'step (\d+)/', line)[1]) >= step:
                break
        seconds = random.uniform(0, 0.3)
        time.sleep(seconds)
        return process, f'{seconds:.2f} s after the line "{line.partition("  loss")[0]}"'


def check_end(ended: Ended, *statuses: int) -> None:
    """`SystemExit` unless a process ended with one of the statuses, and in a few lines."""
    if ended.status not in statuses or len(ended.errors) > MAX_LINES:
        sys.exit(f'it should have ended with status {statuses} and {MAX_LINES} lines of errors at the most\n{ended}')


def kill(run: Run, step: int) -> str:
    """A kill, such as that of a machine that is lost."""
    process, moment = run.start_until(step)
    process.send(signal.SIGKILL)
    check_end(process.end(), -signal.SIGKILL)
    return moment


def kill_while_starting(run: Run, step: int) -> str:
    """A kill before or about the first step of a process."""
    process, seconds = run.start(), random.uniform(0.5, 6)
    time.sleep(seconds)
    process.send(signal.SIGKILL)
    check_end(process.end(), -signal.SIGKILL)
    return f'{seconds:.2f} s after the start'


def _stop(run: Run, step: int, *signals: int) -> str:
    process, moment = run.start_until(step)
    for signum in signals:
        process.send(signum)
        time.sleep(0.02)
    ended = process.end()
    check_end(ended, 0, *([130] if len(signals) > 1 else []))
    if ended.status == 130:
        return f'{moment}; ended at once'
    (stopped,) = re.findall(r'^stopped by (SIG\w+) at step (\d+), saved', '\n'.join(ended.output), re.MULTILINE)
    if stopped[0] != signals[0].name:
        sys.exit(f'{stopped[0]} is not what it got\n{ended}')
    run.not_evaluated.add(int(stopped[1]))
    return f'{moment}; saved step {stopped[1]}'


def terminate(run: Run, step: int) -> str:
    """SIGTERM: the machine is being taken away."""
    return _stop(run, step, signal.SIGTERM)


def interrupt(run: Run, step: int) -> str:
    """Ctrl-C."""
    return _stop(run, step, signal.SIGINT)


def interrupt_twice(run: Run, step: int) -> str:
    """Ctrl-C, and again."""
    return _stop(run, step, signal.SIGINT, signal.SIGINT)


def fill_the_disk(run: Run, step: int) -> str:
    """No file can grow beyond a size any more, that of a checkpoint or also that of the log."""
    process, moment = run.start_until(step)
    limit = random.choice([1_000, 200_000])
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    ended = process.end()
    check_end(ended, 1)
    (line,) = [line for line in ended.errors if line.startswith('error: ')]
    if str(run.workdir) not in line:
        sys.exit(f'the file is not named\n{ended}')
    return f'{moment}, {limit:,} bytes; {line.replace(f"{run.workdir}/", "")[:60]}...'


def start_a_second_run(run: Run, step: int) -> str:
    """Somebody starts the command again while it runs."""
    process, moment = run.start_until(step)
    process.send(signal.SIGSTOP)  # or it might end before the other one has started
    second = run.start().end()
    process.send(signal.SIGCONT)
    check_end(second, 2)
    if 'is in use by process' not in second.errors[-1]:
        sys.exit(f'it was refused for another reason\n{second}')
    process.read('step')
    process.send(signal.SIGKILL)
    check_end(process.end(), -signal.SIGKILL)
    return f'{moment}; refused, and the first one killed after another step'


def damage_the_log(run: Run, step: int) -> str:
    """`metrics.jsonl` is cut off, or holds zeros or a foreign line."""
    path = run.workdir / 'metrics.jsonl'
    content, how = path.read_bytes(), random.choice(['cut off', 'zeros', 'foreign line'])
    position = random.randrange(len(content))
    damaged = {
        'cut off': content[:position],
        'zeros': content[:position] + bytes(100) + content[position + 100 :],
        'foreign line': content + b'{"kind": "other"}\n',
    }
    path.write_bytes(damaged[how])
    process = run.start()
    line = process.read(('going on from', 'starting from'))
    run.known_from = int(line.rpartition(' ')[2])
    process.read('step')
    process.send(signal.SIGKILL)
    ended = process.end()
    check_end(ended, -signal.SIGKILL)
    return f'{how} at byte {position:,} of {len(content):,}; {line}'


def change_the_data(run: Run, step: int) -> str:
    """Somebody adds an image, which would be in another place of every epoch for all others."""
    added = run.data / 'train' / '0' / 'added.png'
    shutil.copy(run.data / 'train' / '0' / '000.png', added)
    ended = run.start().end()
    added.unlink()
    check_end(ended, 2)
    return ended.errors[-1].replace(str(run.data), 'DATA')


# The first of them, so that there is a checkpoint and a log; and how often each of the others happens.
FIRST = kill
FAULTS: dict[Callable[[Run, int], str], int] = {
    kill: 4,
    kill_while_starting: 3,
    terminate: 2,
    interrupt: 2,
    interrupt_twice: 1,
    fill_the_disk: 2,
    start_a_second_run: 2,
    damage_the_log: 2,
    change_the_data: 1,
}


def write_images(folder: Path) -> None:
    """Noise of two classes that differ in their brightness."""
    for split, count in (('train', 90), ('test', 30)):
        for label in range(2):
            (folder / split / str(label)).mkdir(parents=True)
            for number in range(count):
                generator = np.random.default_rng([label, number, split == 'test'])
                pixels = generator.integers(100 * label, 200 + 50 * label, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / str(label) / f'{number:03d}.png')


def describe_checkpoints(workdir: Path) -> str:
    """Which steps are there; `SystemExit` unless all of them are whole."""
    steps = sorted(int(path.name) for path in (workdir / 'checkpoints').glob('*') if path.name.isdecimal())
    for step in steps:
        if faults := verify_manifest(workdir / 'checkpoints' / str(step)):
            sys.exit(f'checkpoint {step} is damaged: {faults}')
    return f'checkpoints {", ".join(map(str, steps))} whole' if steps else 'no checkpoint yet'


def go_on_in_spite_of_all(run: Run) -> int:
    """Takes a run to its end, prints each fault, and returns how many there were."""
    faults = [fault for fault, count in FAULTS.items() for _ in range(count)]
    random.shuffle(faults)
    faults.insert(0, FIRST)
    steps = sorted(random.sample(range(16, STEPS - 24), len(faults)))
    for number, (fault, step) in enumerate(zip(faults, steps, strict=True), 1):
        said = fault(run, step)
        print(f'{number:2d} {fault.__name__}: {said}; {describe_checkpoints(run.workdir)}', flush=True)
    ended = run.start().end()
    if ended.status:
        sys.exit(f'the run could not go on\n{ended}')
    return len(faults)


def lost_rows(run: Run, straight: Path) -> list[dict]:
    """The rows of the log that one run has and the other should have."""
    found, expected = read_rows(run.workdir), read_rows(straight)
    needed = [
        row
        for row in expected
        if row['step'] > run.known_from and not (row['kind'] == 'eval' and row['step'] in run.not_evaluated)
    ]
    return [row for row in needed if row not in found] + [row for row in found if row not in expected]


def main() -> None:
    """Runs both and compares them."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(1000)
    random.seed(seed)
    print(f'seed {seed}: {STEPS} steps, a checkpoint every {FIELDS["checkpoint.every_steps"]}', flush=True)
    with tempfile.TemporaryDirectory() as folder, Launcher(Path(folder)) as launcher:
        write_images(Path(folder) / 'images')
        straight, troubled = (
            Run(launcher, Path(folder) / name, Path(folder) / 'images') for name in ('straight', 'troubled')
        )
        ended = straight.start().end()
        if ended.status:
            sys.exit(f'the run that was left alone failed\n{ended}')
        count = go_on_in_spite_of_all(troubled)
        summaries = [read_summary(run.workdir) for run in (straight, troubled)]
        for name in SAME:
            print(f'{name}: {summaries[0][name]} left alone, {summaries[1][name]} in spite of all')
        different = [name for name in SAME if summaries[0][name] != summaries[1][name]]
        if rows := lost_rows(troubled, straight.workdir):
            different.append(f'{len(rows)} rows of metrics.jsonl, the first {json.dumps(rows[0])},')
    if different:
        sys.exit(f'{", ".join(different)} differ')
    print(f'{count} of {count} faults survived, nothing lost: every metric of every step is the same, too')


if __name__ == '__main__':
    main()
