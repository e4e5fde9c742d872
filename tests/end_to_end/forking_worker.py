"""Runs many commands whose imports are done once: each in a fork of this process. No test in here.

`forking_worker.py COMMANDS RESULTS`: COMMANDS is a JSON list of argument lists, e.g. ["train.py", "--workdir=W"], whose
exit statuses, outputs and numbers of compiled programs go into RESULTS, in the same order.
"""

import contextlib
import json
import os
import runpy
import signal
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 240
sys.path[0] = str(ROOT)

# The imports of train.py and eval.py, without their own flags, which would clash. None of them starts JAX's backend.
import jax.monitoring  # noqa: E402

import mobilenets_jax.cli  # noqa: E402
import mobilenets_jax.data.digits  # noqa: E402
import mobilenets_jax.data.image_folder  # noqa: E402
import mobilenets_jax.data.tfds_source  # noqa: E402
import mobilenets_jax.experiment  # noqa: E402
import mobilenets_jax.report.run  # noqa: E402, F401


def run(arguments: list[str], files: dict[str, int]) -> None:
    """Becomes the command; never returns."""
    signal.alarm(LIMIT_SECONDS)
    os.dup2(files['output'], 1)
    os.dup2(files['errors'], 2)

    def note_compilation(event, duration, **details):
        if event == '/jax/core/compile/backend_compile_duration':
            os.write(files['compiled'], b'\n')

    jax.monitoring.register_event_duration_secs_listener(note_compilation)
    status = 0
    try:
        sys.argv = arguments
        runpy.run_path(str(ROOT / arguments[0]), run_name='__main__')
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)


def result_of(arguments: list[str]) -> dict:
    """Forks, waits, and collects what the command left."""
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(tempfile.TemporaryFile('w+')) for name in ('output', 'errors', 'compiled')}
        child = os.fork()
        if child == 0:
            run(arguments, {name: file.fileno() for name, file in files.items()})
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        lines = {}
        for name, file in files.items():
            file.seek(0)
            lines[name] = file.read().splitlines()
    return lines | {'status': status, 'compiled': len(lines['compiled'])}


if __name__ == '__main__':
    commands, results = map(Path, sys.argv[1:])
    results.write_text(json.dumps([result_of(arguments) for arguments in json.loads(commands.read_text())]))
