"""A gcloud for tests: it keeps its slices in a folder, runs commands on their workers, and fails on request.

The folder is FAKE_GCLOUD. In it: `calls`, what was called, a line each; `slices.json`, the state of each slice by group
and name; `failures.json`, by action the answers (message, status) of the next calls, null for one that works; and a
home folder for each worker.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ['FAKE_GCLOUD'])
WORKERS = ('0', '1')


def main(words: list[str]) -> int:
    """Does what a call asks for; returns the exit status."""
    assert words[0] == '--quiet', words
    with open(FOLDER / 'calls', 'a') as calls:
        calls.write(' '.join(words[1:]).replace('\n', ' ') + '\n')
    _, tpus, *rest = words[1:]
    group, action = (rest[0], rest[1]) if tpus == 'tpus' else ('storage', tpus)
    failures = read('failures.json')
    if answers := failures.get(action):
        answer = answers.pop(0)
        (FOLDER / 'failures.json').write_text(json.dumps(failures))
        if answer:
            print(answer[0], file=sys.stderr)
            return answer[1]
    flags = dict(word.removeprefix('--').partition('=')[::2] for word in rest if word.startswith('--'))
    return {'list': listed, 'create': created, 'delete': deleted, 'ssh': ran, 'scp': copied, 'rsync': synced}[action](
        group, [word for word in rest[2:] if not word.startswith('--')], flags
    )


def read(name: str) -> dict:
    """A JSON file of the folder; {} if there is none."""
    path = FOLDER / name
    return json.loads(path.read_text()) if path.exists() else {}


def listed(group, names, flags) -> int:
    """Prints the slices as value(name.basename(),state) does."""
    assert flags['format'] == f'value(name.basename(),{"state" if group == "tpu-vm" else "state.state"})'
    print(''.join(f'{name}\t{state}\n' for name, state in read('slices.json').get(group, {}).items()), end='')
    return 0


def created(group, names, flags) -> int:
    """Makes a slice; a queued one waits."""
    return change(group, names[0], 'READY' if group == 'tpu-vm' else 'WAITING_FOR_RESOURCES')


def deleted(group, names, flags) -> int:
    """Forgets a slice."""
    return change(group, names[0], None)


def change(group: str, name: str, state: str | None) -> int:
    """Sets a state, in the way of the real one only where it may be."""
    slices = read('slices.json')
    there = name in slices.setdefault(group, {})
    if there == (state is not None):
        print(f'ERROR: {name} {"is there already" if there else "was not found"}', file=sys.stderr)
        return 1
    slices[group] |= {name: state}
    slices[group] = {name: state for name, state in slices[group].items() if state}
    (FOLDER / 'slices.json').write_text(json.dumps(slices))
    return 0


def ran(group, names, flags) -> int:
    """Runs the command in the home of each worker; the worst of their statuses."""
    workers = WORKERS if flags['worker'] == 'all' else [flags['worker']]
    return max(subprocess.run(['bash', '-c', flags['command']], cwd=home(worker)).returncode for worker in workers)


def copied(group, names, flags) -> int:
    """Copies a file to the home of each worker."""
    for worker in WORKERS:
        shutil.copy(names[0], home(worker) / names[1].partition(':')[2])
    return 0


def synced(group, names, flags) -> int:
    """Has nothing to copy."""
    assert Path(sys.argv[-1]).is_dir()
    return 0


def home(worker: str) -> Path:
    """The home folder of a worker."""
    path = FOLDER / f'worker_{worker}'
    path.mkdir(exist_ok=True)
    return path


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
