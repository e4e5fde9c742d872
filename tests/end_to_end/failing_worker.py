"""A command of several processes that trains nothing; the last process fails. No test in here.

`failing_worker.py --fault=raise|die --coordinator=...`: the others wait for it in a collective of their devices.
"""

import os
import signal
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])

import jax  # noqa: E402
from absl import flags  # noqa: E402
from jax.experimental import multihost_utils  # noqa: E402

from mobilenets_jax import cli  # noqa: E402

FAULT = flags.DEFINE_enum('fault', None, ['raise', 'die'], 'How it fails.')


def main() -> None:
    multihost_utils.sync_global_devices('all are there')
    print('all are there', flush=True)
    if jax.process_index() == jax.process_count() - 1:
        if FAULT.value == 'die':
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError('img_000.jpg is truncated')
    multihost_utils.sync_global_devices('never')


if __name__ == '__main__':
    cli.run(main, sys.argv)
