"""Top-1, top-5 and loss over a whole evaluation set, exact for any set size, batch and number of devices.

Batches are padded to one shape and carry a mask; the step returns sums over the real examples of all devices, and the
count of them must be the size of the set.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mobilenets_jax.errors import check
from mobilenets_jax.training import parallel

PyTree = Any


class ClassificationEvaluator:
    """Evaluates parameters on one evaluation set.

    Args:
        eval_step: `training.step.make_eval_step`, mapped over the devices.
        batches: from nothing to the batches of the whole set, padded, as many on every process.
        num_examples: size of the set.
    """

    def __init__(self, eval_step: Callable, batches: Callable[[], Iterator[PyTree]], num_examples: int):
        check(num_examples > 0, 'evaluation set', num_examples, 'examples: there is nothing to evaluate')
        self._eval_step = eval_step
        self._batches = batches
        self._num_examples = num_examples

    def __call__(self, params: PyTree, batch_stats: PyTree) -> dict[str, float]:
        """Measures the parameters.

        Args:
            params: replicated over the local devices.
            batch_stats: likewise.

        Returns:
            'top1' and 'top5' in percent, 'loss' (mean cross-entropy, nats) and 'count'.

        Raises:
            RuntimeError: if the examples seen are not as many as the set has.
        """
        sums = [self._eval_step(params, batch_stats, batch) for batch in parallel.put_batches(self._batches())]
        fetched = [parallel.to_host(row) for row in sums]
        total = {name: float(np.sum([row[name] for row in fetched], dtype=np.float64)) for name in fetched[0]}
        count = round(total['count'])
        if count != self._num_examples:
            raise RuntimeError(f'Evaluated {count} examples of a set of {self._num_examples}.')
        return {
            'top1': 100 * total['top1'] / count,
            'top5': 100 * total['top5'] / count,
            'loss': total['loss'] / count,
            'count': count,
        }
