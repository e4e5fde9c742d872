"""One contender of a race: makes ready, says so, then does what each line of standard input says.

A number: so many steps, and the seconds that they took. `bytes`: what the compiler reports that a step reads and
writes, which JAX's programs alone know.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable

WARM_UP_STEPS = 3


def seconds(step: Callable, wait: Callable, steps: int, run_ahead: bool) -> float:
    """Of so many steps.

    Args:
        step: returns its result, perhaps before it is computed.
        wait: until a result is computed.
        steps: how many.
        run_ahead: whether the next step is given to the device while it still computes, as training loops do.
    """
    start = time.perf_counter()
    for _ in range(steps):
        result = step()
        if not run_ahead:
            wait(result)
    wait(result)
    return time.perf_counter() - start


def main() -> None:
    """`python -m benchmarks.contender MODULE TASK OPTIONS`, OPTIONS in JSON."""
    name, task, options = sys.argv[1:]
    module, options = importlib.import_module(f'benchmarks.contenders.{name}'), json.loads(options)
    run_ahead = options.pop('run_ahead', False)
    step = getattr(module, task)(**options)
    wait = getattr(module, 'wait', lambda result: None)
    seconds(step, wait, WARM_UP_STEPS, run_ahead)
    print('ready', flush=True)
    for line in sys.stdin:
        if line == 'bytes\n':
            print(step.lower().compile().cost_analysis()['bytes accessed'], flush=True)
        else:
            print(seconds(step, wait, int(line), run_ahead), flush=True)


if __name__ == '__main__':
    main()
