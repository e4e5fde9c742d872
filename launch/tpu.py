"""Runs train.py on a Cloud TPU slice by hand: one command a step, each safe to repeat.

    python launch/tpu.py create  --name=NAME --zone=ZONE --type=v3-32 [--spot] [--queued]
    python launch/tpu.py install --name=NAME --zone=ZONE
    python launch/tpu.py start   --name=NAME --zone=ZONE -- --config=FILE --workdir=gs://BUCKET/RUN [...]
    python launch/tpu.py logs    --name=NAME --zone=ZONE
    python launch/tpu.py stop    --name=NAME --zone=ZONE
    python launch/tpu.py fetch   --workdir=gs://BUCKET/RUN --to=FOLDER
    python launch/tpu.py delete  --name=NAME --zone=ZONE [--queued]

`--dry_run` prints the gcloud calls instead of making them. It needs nothing but Python, git and gcloud. Nothing here
watches a run: `launch/sky.yaml` and `launch/jobset.yaml` are for a run that goes on by itself, see docs/tpu.md,
which also has the hours computed for each recipe and slice.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = 'mobilenets_jax'  # in the home folder of each worker
ARCHIVE = 'mobilenets_jax.tar.gz'
LOG = 'train.log'  # in FOLDER
PREEMPTED_STATUS = 75  # of train.py, whose others are 0 at the end, 2 for a user's mistake and 1
MAX_NAMED_FILES = 5

# The software of a slice, by the generation of its type (v3-32 -> v3).
RUNTIMES = {
    'v2': 'tpu-ubuntu2204-base',
    'v3': 'tpu-ubuntu2204-base',
    'v4': 'tpu-ubuntu2204-base',
    'v5litepod': 'v2-alpha-tpuv5-lite',
    'v5p': 'v2-alpha-tpuv5',
    'v6e': 'v2-alpha-tpuv6e',
}

# A run holds the lock on this file, which names its process group: the kernel gives it back however the run ends.
LOCK = '.run'
ALONE = f"""mkdir -p {FOLDER} && cd {FOLDER} && exec 9>> {LOCK} || exit 1
flock -n 9 || {{ echo "$(hostname): a run is going on, nothing was done; launch/tpu.py stop ends it" >&2; exit 1; }}"""

# What was removed from the project goes; environment and log stay. The slices' own Python is older than needed.
INSTALL = f"""{ALONE}
set -e
find . -mindepth 1 -maxdepth 1 ! -name .venv ! -name {LOG} ! -name {LOCK} -exec rm -rf {{}} +
tar -xzf ../{ARCHIVE}
python3 -m pip install --quiet --user uv
test -d .venv || python3 -m uv venv --quiet --python=3.12 .venv
python3 -m uv pip install --quiet --python=.venv -r requirements.txt 'jax[tpu]'"""

# The shell outlives the signal that `stop` sends to its group, to write down how the run ended.
RUN = f'trap : TERM; echo $$ > {LOCK}; echo "$(date -Is)" {{quoted}}; {{train}}; echo exit status $?'

STOP = f"""cd {FOLDER} || exit 1
if flock -n {LOCK} true; then echo "$(hostname): no run is going on" >&2; exit; fi
group=$(cat {LOCK}); test -n "$group" && kill -TERM -- "-$group" || true"""


class CallError(Exception):
    """A command failed, or is not there."""


class Slice:
    """One slice by name and zone, and the gcloud calls that concern it.

    Args:
        arguments: the parsed command line.
    """

    def __init__(self, arguments: argparse.Namespace):
        self._arguments = arguments
        self._dry_run = arguments.dry_run

    def create(self) -> int:
        """Makes the slice unless it is there; 0 once it can be used, 1 while a queued one is waited for."""
        arguments = self._arguments
        state = self._state()
        if state is None:
            self._create()
            state = 'requested' if arguments.queued else 'READY'
        print(f'{arguments.name}: {state}', file=sys.stderr)
        if state in ('READY', 'ACTIVE') or self._dry_run:
            return 0
        if state in ('requested', 'ACCEPTED', 'PROVISIONING', 'WAITING_FOR_RESOURCES', 'CREATING', 'STARTING'):
            print('not there yet; the same command asks again', file=sys.stderr)
        else:  # PREEMPTED, TERMINATED, SUSPENDED, FAILED, ...
            print('it will not come back; launch/tpu.py delete removes it', file=sys.stderr)
        return 1

    def _create(self) -> None:
        arguments = self._arguments
        runtime = RUNTIMES[arguments.type.partition('-')[0]]
        spot = ['--spot'] if arguments.spot else []
        place = [f'--zone={arguments.zone}', f'--accelerator-type={arguments.type}']
        if arguments.queued:
            node = f'--node-id={arguments.name}'
            self._tpus('queued-resources', 'create', node, *place, f'--runtime-version={runtime}', *spot)
        else:
            self._tpus('tpu-vm', 'create', *place, f'--version={runtime}', *spot)

    def install(self) -> int:
        """Copies the committed files to all workers and installs what they need; not under a run."""
        changed = self._call('git', '-C', str(ROOT), 'status', '--porcelain', asks=True).splitlines()
        if changed:
            names = ', '.join(line[3:] for line in changed[:MAX_NAMED_FILES])
            more = f' and {len(changed) - MAX_NAMED_FILES} more' if len(changed) > MAX_NAMED_FILES else ''
            print(f'not installed, as not committed: {names}{more}', file=sys.stderr)
        archive = str(Path(tempfile.gettempdir()) / ARCHIVE)
        self._call('git', '-C', str(ROOT), 'archive', '--format=tar.gz', f'--output={archive}', 'HEAD')
        there, zone = f'{self._arguments.name}:{ARCHIVE}', f'--zone={self._arguments.zone}'
        self._gcloud('compute', 'tpus', 'tpu-vm', 'scp', archive, there, zone, '--worker=all')
        self._ssh('all', INSTALL)
        return 0

    def start(self) -> int:
        """Starts train.py on all workers unless it runs; it goes on when this command ends.

        The log is appended to, and ends with the exit status.
        """
        train = shlex.join(['.venv/bin/python', 'train.py', '--multihost', *self._arguments.train])
        train = f'{train} --preempted_status={PREEMPTED_STATUS}'
        script = shlex.quote(RUN.format(quoted=shlex.quote(train), train=train))
        # The lock's file is emptied, or `stop` could take the group of an earlier run for that of this one.
        self._ssh('all', f'{ALONE}\n: > {LOCK}\nnohup setsid bash -c {script} >> {LOG} 2>&1 < /dev/null &')
        return 0

    def logs(self) -> int:
        """Streams the log of worker 0, from its beginning."""
        self._ssh('0', f'tail -n +1 -F {FOLDER}/{LOG}')
        return 0

    def stop(self) -> int:
        """Has all workers save a checkpoint and end."""
        self._ssh('all', STOP)
        return 0

    def fetch(self) -> int:
        """Copies the results, but not the checkpoints."""
        arguments = self._arguments
        if not self._dry_run:
            Path(arguments.to).mkdir(parents=True, exist_ok=True)
        self._gcloud('storage', 'rsync', '--recursive', '--exclude=checkpoints/.*', arguments.workdir, arguments.to)
        return 0

    def delete(self) -> int:
        """Deletes the slice if it is there."""
        arguments = self._arguments
        if self._state() is None and not self._dry_run:
            print(f'{arguments.name}: there is none in {arguments.zone}', file=sys.stderr)
        elif arguments.queued:
            self._tpus('queued-resources', 'delete', f'--zone={arguments.zone}', '--force')
        else:
            self._tpus('tpu-vm', 'delete', f'--zone={arguments.zone}')
        return 0

    def _state(self) -> str | None:
        """READY, PREEMPTED, ...; None if there is no such slice. A question that fails is no answer: it raises."""
        group, field = ('queued-resources', 'state.state') if self._arguments.queued else ('tpu-vm', 'state')
        form = f'--format=value(name.basename(),{field})'
        listed = self._gcloud('compute', 'tpus', group, 'list', f'--zone={self._arguments.zone}', form, asks=True)
        rows = [line.split() for line in listed.splitlines()]
        return next((row[-1] for row in rows if row[:1] == [self._arguments.name]), None)

    def _ssh(self, worker: str, command: str) -> None:
        self._tpus('tpu-vm', 'ssh', f'--zone={self._arguments.zone}', f'--worker={worker}', f'--command={command}')

    def _tpus(self, group: str, action: str, *words: str) -> None:
        self._gcloud('compute', 'tpus', group, action, self._arguments.name, *words)

    def _gcloud(self, *words: str, asks: bool = False) -> str:
        return self._call('gcloud', '--quiet', *words, asks=asks)  # quiet: asks the user nothing

    def _call(self, *words: str, asks: bool = False) -> str:
        """Runs a command, or prints it in a dry run; returns what it wrote where that is asked for."""
        if self._dry_run:
            print(shlex.join(words))
            return ''
        try:
            ended = subprocess.run(words, stdout=subprocess.PIPE if asks else None, text=True)
        except OSError as error:
            raise CallError(f'{words[0]} cannot be run: {error.strerror}') from None
        if ended.returncode:
            call = ' '.join(word for word in words if not word.startswith('-'))
            raise CallError(f'{call}: status {ended.returncode}; the same command may be given again')
        return ended.stdout or ''


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; what follows `--` goes to train.py."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest='action', required=True)
    for action in ('create', 'install', 'start', 'logs', 'stop', 'fetch', 'delete'):
        own = actions.add_parser(action)
        own.add_argument('--dry_run', action='store_true', help='print the calls instead of making them')
        if action == 'fetch':
            own.add_argument('--workdir', required=True, help='gs:// folder of the run')
            own.add_argument('--to', required=True, help='local folder')
            continue
        own.add_argument('--name', required=True, help='of the slice')
        own.add_argument('--zone', required=True, help='e.g. europe-west4-a')
        if action == 'create':
            own.add_argument('--type', required=True, help='e.g. v3-32, v4-32, v5litepod-16')
            own.add_argument('--spot', action='store_true', help='cheaper, and may be preempted')
        if action in ('create', 'delete'):
            own.add_argument('--queued', action='store_true', help='as a queued resource')
    split = argv.index('--') if '--' in argv else len(argv)
    arguments = parser.parse_args(argv[:split])
    arguments.train = argv[split + 1 :]
    if arguments.action == 'create' and arguments.type.partition('-')[0] not in RUNTIMES:
        known = ', '.join(sorted(RUNTIMES))
        parser.exit(2, f'error: --type={arguments.type} is unknown. Known generations: {known}.\n')
    if arguments.action == 'start' and not arguments.train:
        parser.exit(2, 'error: the flags of train.py are missing, e.g. -- --config=FILE --workdir=gs://BUCKET/RUN\n')
    return arguments


def main(argv: Sequence[str]) -> int:
    """Does one action; returns the exit status."""
    arguments = parse(argv)
    try:
        return getattr(Slice(arguments), arguments.action)()
    except CallError as error:
        print(f'error: {error}', file=sys.stderr)
    except KeyboardInterrupt:
        print('interrupted; what gcloud was asked for may go on', file=sys.stderr)
    return 1


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
