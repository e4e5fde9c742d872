"""Top-1, top-5 and loss over a whole evaluation set, exact for any set size, batch and number of devices.

Batches are padded to one shape and carry a mask; the step returns sums over the real examples of all devices, and the
count of them must be the size of the set. Where the examples themselves are asked for, the step returns those of all
devices with their index, and each index must be there once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
        _check_not_empty(num_examples)
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
        return _means([parallel.to_host(row) for row in sums], self._num_examples)


class RowEvaluator:
    """Evaluates parameters on one evaluation set, and keeps what they make of each example.

    Args:
        rows_step: `training.step.make_rows_step`, mapped over the devices.
        batches: as of `ClassificationEvaluator`, with the field 'index'.
        num_examples: size of the set.
    """

    def __init__(self, rows_step: Callable, batches: Callable[[], Iterator[PyTree]], num_examples: int):
        _check_not_empty(num_examples)
        self._rows_step = rows_step
        self._batches = batches
        self._num_examples = num_examples

    def __call__(self, params: PyTree, batch_stats: PyTree) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Measures the parameters, which are replicated over the local devices.

        Returns:
            The metrics as of `ClassificationEvaluator`; and 'label', 'predicted', 'probability' (of the predicted
            class), 'top1' and 'top5' (whether the label is among so many likeliest classes) of each example, each
            [num_examples] in the order of the set, the same on every process.

        Raises:
            RuntimeError: if an example of the set was not seen, or was seen twice.
        """
        fetched = []
        for batch in parallel.put_batches(self._batches()):
            fetched.append(parallel.to_host(self._rows_step(params, batch_stats, batch)))
        sums, rows = zip(*fetched, strict=True)
        return _means(sums, self._num_examples), _in_order(rows, self._num_examples)


def _check_not_empty(num_examples: int) -> None:
    check(num_examples > 0, 'evaluation set', num_examples, 'examples: there is nothing to evaluate')


def _means(sums: Sequence[Mapping[str, np.ndarray]], num_examples: int) -> dict[str, float]:
    """The metrics of a set from the sums over its batches."""
    total = {name: float(np.sum([row[name] for row in sums], dtype=np.float64)) for name in sums[0]}
    count = round(total['count'])
    if count != num_examples:
        raise RuntimeError(f'Evaluated {count} examples of a set of {num_examples}.')
    return {
        'top1': 100 * total['top1'] / count,
        'top5': 100 * total['top5'] / count,
        'loss': total['loss'] / count,
        'count': count,
    }


def _in_order(batches: Sequence[Mapping[str, np.ndarray]], num_examples: int) -> dict[str, np.ndarray]:
    """The rows of the real examples of all batches, in the order of their index."""
    rows = {name: np.concatenate([batch[name].ravel() for batch in batches]) for name in batches[0]}
    real = rows.pop('mask') > 0
    rows = {name: values[real] for name, values in rows.items()}
    index = rows.pop('index')
    order = np.argsort(index)
    if not np.array_equal(index[order], np.arange(num_examples)):
        raise RuntimeError(f'Not every example of a set of {num_examples} was evaluated once: {len(index)} rows.')
    return {name: values[order] for name, values in rows.items()}
