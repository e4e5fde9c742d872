"""Replication, transfer ahead of the step, and their errors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilenets_jax.training import parallel


def test_replicated_tree_comes_back_unchanged():
    tree = {'a': np.arange(6.0).reshape(2, 3), 'step': np.int32(7)}
    replicated = parallel.replicate(tree)
    assert replicated['a'].shape == (2, 3)
    assert len(replicated['a'].addressable_shards) == jax.local_device_count() == 8
    back = parallel.to_host(replicated)
    np.testing.assert_array_equal(back['a'], tree['a'])
    assert back['step'] == 7 and back['step'].dtype == np.int32


def test_batches_keep_their_order_and_end():
    batches = [{'x': np.full((8, 2), i, np.float32)} for i in range(7)]
    seen = [float(batch['x'][0, 0]) for batch in parallel.put_batches(batches)]
    assert seen == list(range(7))


def test_an_error_of_the_source_is_raised_in_its_place():
    def source():
        yield {'x': np.zeros((8, 1))}
        raise OSError('img_000.jpg is truncated')

    stream = parallel.put_batches(source())
    next(stream)
    with pytest.raises(OSError, match='img_000.jpg is truncated'):
        next(stream)


def test_an_endless_source_can_be_left():
    read = []

    def source():
        for i in itertools.count():
            read.append(i)
            yield {'x': np.zeros((8, 1))}

    stream = parallel.put_batches(source(), ahead=3)
    next(stream)
    stream.close()
    assert len(read) <= 5


def test_steps_see_their_own_rows_and_agree():
    def step(state, batch):
        total = jax.lax.psum(batch['x'].sum(), parallel.AXIS_NAME)
        return state + total, {'total': total, 'largest': jax.lax.pmax(batch['x'].max(), parallel.AXIS_NAME)}

    batch = next(parallel.put_batches([{'x': np.arange(16.0, dtype=np.float32).reshape(8, 2)}]))
    state, metrics = parallel.parallel_train_step(step)(parallel.replicate(jnp.zeros(())), batch)
    assert float(parallel.to_host(state)) == 120.0
    assert parallel.to_host(metrics) == {'total': 120.0, 'largest': 15.0}
