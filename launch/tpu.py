"""Runs train.py on a Cloud TPU slice: one command an action; `--dry_run` prints the gcloud calls instead.

    python launch/tpu.py create  --name=NAME --zone=ZONE --type=v3-32 [--spot] [--queued]
    python launch/tpu.py install --name=NAME --zone=ZONE
    python launch/tpu.py start   --name=NAME --zone=ZONE -- --config=FILE --workdir=gs://BUCKET/RUN [...]
    python launch/tpu.py logs    --name=NAME --zone=ZONE
    python launch/tpu.py keep    --name=NAME --zone=ZONE --type=v3-32 [--spot] [--queued] -- --config=FILE ...
    python launch/tpu.py fetch   --workdir=gs://BUCKET/RUN --to=FOLDER
    python launch/tpu.py delete  --name=NAME --zone=ZONE [--queued]

`keep` does all of it: it makes the slice, starts the run, and does so again after a preemption or a failure until the
run is over. It needs nothing but Python and gcloud, and may itself be stopped and started at any time.
"""

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence

FOLDER = 'mobilenets_jax'  # in the home folder of each worker
ARCHIVE = 'mobilenets_jax.tar.gz'
LOG = f'{FOLDER}/train.log'
POLL_SECONDS = 60
PREEMPTED_STATUS = 75  # of train.py, whose others are 0 at the end, 2 for a user's mistake and 1

# The software of a slice, by the generation of its type (v3-32 -> v3).
RUNTIMES = {
    'v2': 'tpu-ubuntu2204-base',
    'v3': 'tpu-ubuntu2204-base',
    'v4': 'tpu-ubuntu2204-base',
    'v5litepod': 'v2-alpha-tpuv5-lite',
    'v5p': 'v2-alpha-tpuv5',
    'v6e': 'v2-alpha-tpuv6e',
}

# The slices' own Python is older than the project needs.
INSTALL = f"""set -e
mkdir -p {FOLDER} && tar -xzf {ARCHIVE} -C {FOLDER} && cd {FOLDER}
python3 -m pip install --quiet --user uv
test -d .venv || python3 -m uv venv --quiet --python=3.12 .venv
python3 -m uv pip install --quiet --python=.venv -r requirements.txt 'jax[tpu]'"""

# Whether the run goes on, or how it ended. The brackets keep the question itself from being found.
ASK = f"pgrep -f '[t]rain.py --multihost' > /dev/null && echo running || tail -n 1 {LOG} || echo not started"


class Slice:
    """One slice by name and zone, and the gcloud calls that concern it.

    Args:
        arguments: the parsed command line.
    """

    def __init__(self, arguments: argparse.Namespace):
        self._arguments = arguments
        self._dry_run = arguments.dry_run

    def create(self) -> None:
        """Makes the slice; a queued one is waited for."""
        arguments = self._arguments
        runtime = RUNTIMES[arguments.type.partition('-')[0]]
        spot = ['--spot'] if arguments.spot else []
        place = [f'--zone={arguments.zone}', f'--accelerator-type={arguments.type}']
        if not arguments.queued:
            self._tpu_vm('create', arguments.name, *place, f'--version={runtime}', *spot)
            return
        node = f'--node-id={arguments.name}'
        self._queued('create', arguments.name, node, *place, f'--runtime-version={runtime}', *spot)
        while (state := self._queue_state()) != 'ACTIVE':
            if state in ('FAILED', 'SUSPENDED'):
                sys.exit(f'error: the queued resource {arguments.name} is {state}.')
            time.sleep(POLL_SECONDS)

    def install(self) -> None:
        """Copies the committed files to all workers and installs what they need."""
        self._call('git', 'archive', '--format=tar.gz', f'--output={ARCHIVE}', 'HEAD')
        arguments = self._arguments
        self._tpu_vm('scp', ARCHIVE, f'{arguments.name}:{ARCHIVE}', f'--zone={arguments.zone}', '--worker=all')
        self._ssh('all', INSTALL)

    def start(self) -> None:
        """Starts train.py on all workers; it goes on when this command ends, and leaves its exit status in its log."""
        train = shlex.join(['.venv/bin/python', 'train.py', '--multihost', *self._arguments.train])
        script = f'cd {FOLDER}; {train} --preempted_status={PREEMPTED_STATUS}; echo exit status $?'
        self._ssh('all', f'nohup setsid bash -c {shlex.quote(script)} > {LOG} 2>&1 < /dev/null &')

    def logs(self) -> None:
        """Streams the log of worker 0, from its beginning."""
        self._ssh('0', f'tail -n +1 -F {LOG}')

    def keep(self) -> None:
        """Sees to it that the run goes on until it has ended."""
        while True:
            if self._state() != 'READY':
                self.delete()
                self.create()
                self.install()
                self.start()
            match self._ssh('0', ASK, must_succeed=False).split():
                case ['exit', 'status', ('0' | '2') as status]:  # over, or a user's mistake, which would be made again
                    sys.exit(int(status))
                case ['exit', 'status', _]:
                    self.start()
                case [answer, *_] if answer != 'running':  # the machine went down, or this command was stopped
                    self.install()
                    self.start()
            if self._dry_run:
                return
            time.sleep(POLL_SECONDS)

    def fetch(self) -> None:
        """Copies the results, but not the checkpoints."""
        arguments = self._arguments
        self._gcloud('storage', 'rsync', '--recursive', '--exclude=checkpoints/.*', arguments.workdir, arguments.to)

    def delete(self) -> None:
        """Deletes the slice, if it is there."""
        name, zone = self._arguments.name, f'--zone={self._arguments.zone}'
        if self._arguments.queued:
            self._queued('delete', name, zone, '--force', must_succeed=False)
        else:
            self._tpu_vm('delete', name, zone, must_succeed=False)

    def _state(self) -> str:
        """READY, PREEMPTED, ...; empty where there is no slice."""
        name, zone = self._arguments.name, f'--zone={self._arguments.zone}'
        return self._tpu_vm('describe', name, zone, '--format=value(state)', must_succeed=False)

    def _queue_state(self) -> str:
        name, zone = self._arguments.name, f'--zone={self._arguments.zone}'
        return self._queued('describe', name, zone, '--format=value(state.state)') or 'ACTIVE'  # in a dry run

    def _ssh(self, worker: str, command: str, must_succeed: bool = True) -> str:
        name, zone = self._arguments.name, f'--zone={self._arguments.zone}'
        return self._tpu_vm('ssh', name, zone, f'--worker={worker}', f'--command={command}', must_succeed=must_succeed)

    def _tpu_vm(self, *words: str, must_succeed: bool = True) -> str:
        return self._gcloud('compute', 'tpus', 'tpu-vm', *words, must_succeed=must_succeed)

    def _queued(self, *words: str, must_succeed: bool = True) -> str:
        return self._gcloud('compute', 'tpus', 'queued-resources', *words, must_succeed=must_succeed)

    def _gcloud(self, *words: str, must_succeed: bool = True) -> str:
        return self._call('gcloud', '--quiet', *words, must_succeed=must_succeed)  # asks nothing

    def _call(self, *words: str, must_succeed: bool = True) -> str:
        """Runs a command, or prints it in a dry run; returns what it wrote if its failure or its answer matters."""
        if self._dry_run:
            print(shlex.join(words))
            return ''
        asks = 'describe' in words or not must_succeed
        ended = subprocess.run(words, stdout=subprocess.PIPE if asks else None, text=True)
        if must_succeed and ended.returncode:
            sys.exit(f'error: {shlex.join(words)} ended with status {ended.returncode}.')
        return (ended.stdout or '').strip()


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; what follows `--` goes to train.py."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest='action', required=True)
    for action in ('create', 'install', 'start', 'logs', 'keep', 'fetch', 'delete'):
        own = actions.add_parser(action)
        own.add_argument('--dry_run', action='store_true', help='print the calls instead of making them')
        if action == 'fetch':
            own.add_argument('--workdir', required=True, help='gs:// folder of the run')
            own.add_argument('--to', required=True, help='local folder')
            continue
        own.add_argument('--name', required=True, help='of the slice')
        own.add_argument('--zone', required=True, help='e.g. europe-west4-a')
        if action in ('create', 'keep'):
            own.add_argument('--type', required=True, help='e.g. v3-32, v4-32, v5litepod-16')
            own.add_argument('--spot', action='store_true', help='cheaper, and may be preempted')
        if action in ('create', 'keep', 'delete'):
            own.add_argument('--queued', action='store_true', help='as a queued resource')
    split = argv.index('--') if '--' in argv else len(argv)
    arguments = parser.parse_args(argv[:split])
    arguments.train = argv[split + 1 :]
    if arguments.action in ('create', 'keep') and arguments.type.partition('-')[0] not in RUNTIMES:
        known = ', '.join(sorted(RUNTIMES))
        parser.exit(2, f'error: --type={arguments.type} is unknown. Known generations: {known}.\n')
    if arguments.action in ('start', 'keep') and not arguments.train:
        parser.exit(2, 'error: the flags of train.py are missing, e.g. -- --config=FILE --workdir=gs://BUCKET/RUN\n')
    return arguments


def main(argv: Sequence[str]) -> None:
    """Does one action."""
    arguments = parse(argv)
    getattr(Slice(arguments), arguments.action)()


if __name__ == '__main__':
    main(sys.argv[1:])
