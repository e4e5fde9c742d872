"""Processes that want one workdir at the same moment. No test in here.

`lock_worker.py WORKDIR ROUNDS PROCESSES`: in each round so many processes start to take the lock at once, and then are
killed, so that the next round finds what they left. Prints a JSON list: of each round what each process said.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])

import jax  # noqa: E402

from mobilenets_jax.errors import UserError  # noqa: E402
from mobilenets_jax.workdir_lock import WorkdirLock  # noqa: E402

LIMIT_SECONDS = 60


def compete(workdir: str, start: int, result: int) -> None:
    """Becomes one of them; never returns."""
    signal.alarm(LIMIT_SECONDS)
    jax.process_index()  # starts the backend
    os.write(result, b'ready\n')
    os.read(start, 1)  # returns when the parent closes its end
    try:
        with WorkdirLock(workdir):
            os.write(result, b'holds it')
            os.close(result)
            time.sleep(LIMIT_SECONDS)
    except UserError as error:
        os.write(result, str(error).encode())
    os._exit(0)


def read_until(descriptor: int, end: bytes) -> str:
    """What comes up to `end`, or to the end of the pipe."""
    text = b''
    while block := os.read(descriptor, 1 if end else 4096):
        text += block
        if end and text.endswith(end):
            break
    return text.decode()


def compete_once(workdir: str, count: int) -> list[str]:
    """One round."""
    start_reader, start_writer = os.pipe()
    children, results = [], []
    for _ in range(count):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(start_writer)
            compete(workdir, start_reader, writer)
        os.close(writer)
        children.append(child)
        results.append(reader)
    for reader in results:
        read_until(reader, b'\n')
    os.close(start_writer)
    said = [read_until(reader, b'') for reader in results]
    for child in children:
        os.kill(child, signal.SIGKILL)  # what is left of them is not waited for: they stay in the table of processes
    return said


if __name__ == '__main__':
    print(json.dumps([compete_once(sys.argv[1], int(sys.argv[3])) for _ in range(int(sys.argv[2]))]))
