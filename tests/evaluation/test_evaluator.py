"""Sums and rows of a set put together from batches, with a step that returns what it is given."""

import jax
import numpy as np
import pytest

from mobilenets_jax.errors import UserError
from mobilenets_jax.evaluation.evaluator import Evaluator
from mobilenets_jax.training import parallel

DEVICES = 8


def make_batches(index, per_device=2):
    """Batches of the examples of `index` in that order, the last one padded."""
    rows = DEVICES * per_device
    for start in range(0, len(index), rows):
        real = np.asarray(index[start : start + rows], np.int32)
        batch = {'index': np.zeros(rows, np.int32), 'mask': np.zeros(rows, np.float32)}
        batch['index'][: len(real)], batch['mask'][: len(real)] = real, 1
        yield {name: leaf.reshape(DEVICES, per_device) for name, leaf in batch.items()}


def evaluator(index, size, to_metrics, **sums):
    """Of a step whose sums are those given, and which returns ten times the index, twice, as the row of an example."""

    def step(params, batch_stats, batch):
        rows = parallel.to_host(jax.device_put(batch, jax.local_devices()[0]))
        return parallel.replicate((sums, rows | {'tens': np.stack([10 * rows['index']] * 2, axis=-1)}))

    return Evaluator(step, lambda: make_batches(index), size, to_metrics)


def test_rows_come_in_the_order_of_the_set_and_padding_has_none():
    found = evaluator(list(range(69, -1, -1)), 70, lambda sums, rows: {'last': rows['tens'][-1, 1]})({}, {})
    assert found.metrics == {'last': 690.0, 'count': 70}
    assert list(found.rows) == ['tens'] and found.sums == {}
    np.testing.assert_array_equal(found.rows['tens'], 10 * np.stack([np.arange(70)] * 2, axis=-1))


def test_counts_are_added_exactly_and_all_else_in_double_precision():
    """Five batches, whose counts make more than an int32 holds, and are not whole in float32."""
    count = np.array([[2**30 + 1, 1], [0, 7]], np.int32)
    found = evaluator(range(70), 70, lambda sums, rows: {}, count=count, loss=np.float32(0.1))({}, {})
    assert found.sums['count'].dtype == np.int64
    assert found.sums['count'].tolist() == [[5 * (2**30 + 1), 5], [0, 35]]
    assert found.sums['loss'] == 5 * float(np.float32(0.1))


@pytest.mark.parametrize('index', [[0, 0], [1, 2], [0], [0, 1, 1]])
def test_an_example_that_is_evaluated_twice_or_never_is_an_error(index):
    with pytest.raises(RuntimeError, match='Not every example of a set of 2 was evaluated once'):
        evaluator(index, 2, lambda sums, rows: {})({}, {})


def test_empty_set_is_refused():
    with pytest.raises(UserError, match='evaluation set=0 examples: there is nothing to evaluate'):
        evaluator([], 0, lambda sums, rows: {})
