"""A command of several processes; the last one is late for the first step. No test in here.

`late_worker.py --seconds=S --coordinator=...`: all sum a number over the devices of all processes; the last one begins
S seconds after the others, as on a machine that is busy compiling.
"""

import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])

import jax  # noqa: E402
import numpy as np  # noqa: E402
from absl import flags  # noqa: E402

from mobilenets_jax import cli  # noqa: E402
from mobilenets_jax.training import parallel  # noqa: E402

SECONDS = flags.DEFINE_float('seconds', 0.0, 'How late the last one is.')


def main() -> None:
    if jax.process_index() == jax.process_count() - 1:
        time.sleep(SECONDS.value)
    step = parallel.parallel_eval_step(lambda a, b, x: jax.lax.psum(a + b + x, parallel.AXIS_NAME))
    print(float(step(0.0, 0.0, np.ones(jax.local_device_count(), np.float32))), flush=True)


if __name__ == '__main__':
    cli.run(main, sys.argv)
