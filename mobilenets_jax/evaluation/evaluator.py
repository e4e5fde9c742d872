"""The metrics of a network on a whole evaluation set, exact for any task, set size, batch and number of devices.

Batches are padded to one shape and carry a mask. The step returns sums over the real examples of all devices, and the
rows of all examples with their index, and each index must occur once. Every process computes the same metrics.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mobilenets_jax.errors import check
from mobilenets_jax.training import parallel

PyTree = Any
Arrays = Mapping[str, np.ndarray]

STEPS_AHEAD = 2  # of the one whose result is fetched


class Evaluation(NamedTuple):
    """What an evaluation found; the same on every process.

    Attributes:
        metrics: the task's by name, and the 'count' of the examples.
        sums: the task's over the whole set: int64 for counts, float64 for all others.
        rows: the task's of each example, [num_examples, ...], in the order of the set.
    """

    metrics: dict[str, float]
    sums: Arrays
    rows: Arrays


class Evaluator:
    """Evaluates parameters on one evaluation set.

    Args:
        eval_step: `training.step.make_eval_step`, mapped over the devices.
        batches: from nothing to the batches of the whole set, padded, with 'index' and 'mask', as many on every
            process.
        num_examples: size of the set.
        to_metrics: from the sums and the rows of the set, as `Evaluation` has them, to the task's metrics by name.
    """

    def __init__(
        self,
        eval_step: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]],
        batches: Callable[[], Iterator[PyTree]],
        num_examples: int,
        to_metrics: Callable[[Arrays, Arrays], Mapping[str, float]],
    ):
        check(num_examples > 0, 'evaluation set', num_examples, 'examples: there is nothing to evaluate')
        self._eval_step = eval_step
        self._batches = batches
        self._num_examples = num_examples
        self._to_metrics = to_metrics

    def __call__(self, params: PyTree, batch_stats: PyTree) -> Evaluation:
        """Measures parameters and statistics, which are replicated over the local devices.

        Raises:
            RuntimeError: if an example of the set was not evaluated, or evaluated twice.
        """
        sums, rows = zip(*self._results(params, batch_stats), strict=True)
        total = {name: _total([batch[name] for batch in sums]) for name in sums[0]}
        in_order = _in_order(rows, self._num_examples)
        metrics = {name: float(value) for name, value in self._to_metrics(total, in_order).items()}
        return Evaluation(metrics | {'count': self._num_examples}, total, in_order)

    def _results(self, params: PyTree, batch_stats: PyTree) -> Iterator[tuple[Arrays, Arrays]]:
        """What the step returns for each batch, on the host; the devices are never without work."""
        pending: collections.deque[tuple[PyTree, PyTree]] = collections.deque()
        for batch in parallel.put_batches(self._batches()):
            pending.append(self._eval_step(params, batch_stats, batch))
            if len(pending) > STEPS_AHEAD:
                yield parallel.to_host(pending.popleft())
        yield from map(parallel.to_host, pending)


def _total(values: Sequence[np.ndarray]) -> np.ndarray:
    """The sum over batches: exact for counts."""
    dtype = np.int64 if np.issubdtype(values[0].dtype, np.integer) else np.float64
    return np.asarray(np.sum(values, axis=0, dtype=dtype))


def _in_order(batches: Sequence[Arrays], num_examples: int) -> Arrays:
    """The rows of the real examples of all batches, in the order of their index."""
    rows = {
        name: np.concatenate([batch[name].reshape(-1, *batch[name].shape[2:]) for batch in batches])
        for name in batches[0]
    }
    real = rows.pop('mask') > 0
    rows = {name: values[real] for name, values in rows.items()}
    index = rows.pop('index')
    order = np.argsort(index)
    if not np.array_equal(index[order], np.arange(num_examples)):
        raise RuntimeError(f'Not every example of a set of {num_examples} was evaluated once: {len(index)} rows.')
    return {name: values[order] for name, values in rows.items()}
