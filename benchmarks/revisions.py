"""This project beside itself at an earlier commit: `python -m benchmarks.revisions COMMIT train [--network=...]`.

`inference` in the place of `train` races that. Both run in this environment, each from a checkout of its own; the other
flags are those of the races with the peers.
"""

import pathlib
import subprocess
import sys
import tempfile

from benchmarks.command import main
from benchmarks.race import ROOT, Contender

OURS = 'now'


def race_with(commit: str, task: str) -> None:
    """Races the working tree with a checkout of `commit`, which is removed in the end."""
    with tempfile.TemporaryDirectory() as folder:
        earlier = pathlib.Path(folder, 'earlier')
        subprocess.run(['git', '-C', ROOT, 'worktree', 'add', '--quiet', '--detach', earlier, commit], check=True)
        try:
            now = Contender(name=OURS, module='ours', keep_memory=True)
            main(task, (now, Contender(name=commit, module='ours', keep_memory=True, root=earlier)), OURS)
        finally:
            subprocess.run(['git', '-C', ROOT, 'worktree', 'remove', '--force', earlier], check=True)


if __name__ == '__main__':
    if len(sys.argv) < 3 or sys.argv[2] not in ('train', 'inference'):
        sys.exit(__doc__)
    _, commit, task, *flags = sys.argv
    sys.argv = [sys.argv[0], *flags]
    race_with(commit, task)
