"""Kills one run twenty times, each at another moment, and compares its end with that of a run that was left alone.

`python tests/chaos.py [SEED]`, or `make chaos`. Most kills fall shortly after a random step, where they hit steps,
evaluations and saves as it happens; some fall into the start of a process. Ends with status 0 if nothing was lost.
"""

import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / 'end_to_end')]

from launching import SHORT_RUN, Launcher, Process, read_rows, read_summary  # noqa: E402

from mobilenets_jax.checkpoints import verify_manifest  # noqa: E402

KILLS = 20
KILLS_WHILE_STARTING = 4
STEPS = 240
FIELDS = SHORT_RUN | {'num_steps': STEPS, 'evaluation.every_steps': 40, 'checkpoint.every_steps': 8}
SAME = ('step', 'params_sha256', 'ema_sha256', 'test_top1', 'test_loss', 'test_count')


def kill_while_starting(process: Process) -> str:
    """Kills it before or about its first step."""
    seconds = random.uniform(0.5, 6)
    time.sleep(seconds)
    process.send(signal.SIGKILL)
    return f'{seconds:.2f} s after the start'


def kill_after(process: Process, step: int) -> str:
    """Kills it shortly after a step."""
    while line := process.read('step'):
        if int(re.match(r'step (\d+)/', line)[1]) >= step:
            break
    seconds = random.uniform(0, 0.3)
    time.sleep(seconds)
    process.send(signal.SIGKILL)
    return f'{seconds:.2f} s after the line "{line.partition("  loss")[0]}"'


def describe_checkpoints(workdir: Path) -> str:
    """Which steps are there; `SystemExit` unless all of them are whole."""
    steps = sorted(int(path.name) for path in (workdir / 'checkpoints').glob('*') if path.name.isdecimal())
    for step in steps:
        if faults := verify_manifest(workdir / 'checkpoints' / str(step)):
            sys.exit(f'checkpoint {step} is damaged: {faults}')
    return f'checkpoints {", ".join(map(str, steps))} whole' if steps else 'no checkpoint yet'


def kill_and_go_on(launcher: Launcher, workdir: Path) -> None:
    """Takes a run to its end in spite of all kills, and prints each of them."""
    steps = sorted(random.sample(range(1, STEPS - 8), KILLS - KILLS_WHILE_STARTING))
    starting = random.sample(range(KILLS), KILLS_WHILE_STARTING)
    for number in range(KILLS):
        process = launcher.train(workdir, fields=FIELDS)
        moment = kill_while_starting(process) if number in starting else kill_after(process, steps.pop(0))
        ended = process.end()
        if ended.status != -signal.SIGKILL:
            sys.exit(f'kill {number + 1}: the run was not killed but ended by itself\n{ended}')
        print(f'kill {number + 1:2d}: {moment}; {describe_checkpoints(workdir)}', flush=True)
    ended = launcher.train(workdir, fields=FIELDS).end()
    if ended.status:
        sys.exit(f'the run could not go on\n{ended}')


def main() -> None:
    """Runs both and compares them."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(1000)
    random.seed(seed)
    print(
        f'seed {seed}: {KILLS} kills in {STEPS} steps, a checkpoint every {FIELDS["checkpoint.every_steps"]}',
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder, Launcher(Path(folder)) as launcher:
        straight, killed = Path(folder) / 'straight', Path(folder) / 'killed'
        ended = launcher.train(straight, fields=FIELDS).end()
        if ended.status:
            sys.exit(f'the run that was left alone failed\n{ended}')
        kill_and_go_on(launcher, killed)
        summaries = [read_summary(workdir) for workdir in (straight, killed)]
        for name in SAME:
            print(f'{name}: {summaries[0][name]} left alone, {summaries[1][name]} killed')
        different = [name for name in SAME if summaries[0][name] != summaries[1][name]]
        if read_rows(straight) != read_rows(killed):
            different.append('metrics.jsonl')
    if different:
        sys.exit(f'{", ".join(different)} differ')
    print(f'{KILLS} of {KILLS} kills survived, nothing lost: every metric of every step is the same, too')


if __name__ == '__main__':
    main()
