"""One contender of a race: makes ready, says so, then does as many steps as each line of standard input says."""

import importlib
import json
import sys
import time

WARM_UP_STEPS = 3


def main() -> None:
    """`python -m benchmarks.contender MODULE TASK OPTIONS`, OPTIONS in JSON."""
    module, task, options = sys.argv[1:]
    step = getattr(importlib.import_module(f'benchmarks.contenders.{module}'), task)(**json.loads(options))
    for _ in range(WARM_UP_STEPS):
        step()
    print('ready', flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            step()
        print(time.perf_counter() - start, flush=True)


if __name__ == '__main__':
    main()
