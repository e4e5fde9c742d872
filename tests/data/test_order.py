"""The order of the examples: golden, complete, resumable, and the same for every layout."""

import itertools

import numpy as np
import pytest

from mobilenets_jax.data import Layout, order
from mobilenets_jax.data.options import DataOptions
from mobilenets_jax.errors import UserError

LAYOUTS = list(itertools.product([1, 2, 4], [1, 2, 8]))  # processes, devices of each


def read(processes, devices, batches, *, n=103, batch_size=64, seed=3, start=0, repeats=1):
    """The global (epoch, index) rows, put together from all processes: int32 [batches, 2, batch_size]."""
    options = DataOptions(32, batch_size, seed, repeated_augmentation=repeats)
    streams = [order.train_rows(n, options, Layout(p, processes, devices), start) for p in range(processes)]
    return np.stack([np.concatenate([np.stack(next(stream)) for stream in streams], axis=1) for _ in range(batches)])


def test_permutation_is_golden():
    assert order.permutation(seed=0, epoch=0, n=10).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert order.permutation(seed=0, epoch=1, n=10).tolist() == [5, 3, 7, 8, 2, 4, 1, 0, 6, 9]
    assert order.permutation(seed=1, epoch=0, n=10).tolist() == [3, 5, 2, 9, 7, 0, 8, 6, 1, 4]


@pytest.mark.parametrize(('n', 'batch_size'), [(103, 64), (7, 16), (64, 64), (1, 8)])
def test_every_epoch_holds_every_example_once(n, batch_size):
    epoch, index = read(1, 1, 3 * n, n=n, batch_size=batch_size).swapaxes(0, 1).reshape(2, -1)
    assert np.array_equal(epoch, np.arange(len(epoch)) // n)
    for value in range(3):
        assert np.array_equal(np.sort(index[epoch == value]), np.arange(n))


@pytest.mark.parametrize(('processes', 'devices'), LAYOUTS)
def test_global_batches_do_not_depend_on_the_layout(processes, devices):
    assert np.array_equal(read(processes, devices, 10), read(1, 1, 10))


@pytest.mark.parametrize('start', [0, 1, 64, 100, 103, 150, 103 * 64])
def test_resuming_anywhere_continues_the_stream(start):
    straight = read(1, 1, 120).swapaxes(0, 1).reshape(2, -1)
    resumed = read(2, 4, 5, start=start).swapaxes(0, 1).reshape(2, -1)
    assert np.array_equal(resumed, straight[:, start : start + 5 * 64])


@pytest.mark.parametrize(('processes', 'devices', 'start'), [(1, 1, 0), (4, 2, 0), (2, 1, 128)])
def test_repeated_augmentation_puts_copies_into_one_batch(processes, devices, start):
    plain = read(1, 1, 20, batch_size=16)  # of which each is half of a batch of 32
    repeated = read(processes, devices, 10, batch_size=32, start=start, repeats=2)
    for number, (epoch, index) in enumerate(repeated, start // 32):
        if number < 20:
            assert np.array_equal(index, np.tile(plain[number, 1], 2))
            assert np.array_equal(epoch, np.concatenate([2 * plain[number, 0], 2 * plain[number, 0] + 1]))


def test_rows_split_over_devices_in_order():
    batch = Layout(1, 2, 4).split_over_devices({'index': np.arange(8)})
    assert batch['index'].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_batch_that_does_not_divide_is_refused():
    with pytest.raises(UserError, match='^batch_size=12 must be divisible by the 8 devices.$'):
        Layout(0, 2, 4).rows(12)


@pytest.mark.parametrize('n', [1, 7, 16, 103])
@pytest.mark.parametrize(('processes', 'devices'), LAYOUTS)
def test_evaluation_reads_every_example_once_in_order(n, processes, devices):
    rows = [list(order.eval_rows(n, 32, Layout(p, processes, devices))) for p in range(processes)]
    assert {len(batches) for batches in rows} == {-(-n // 32)}
    assert np.concatenate([index for step in zip(*rows, strict=True) for index in step]).tolist() == list(range(n))


def test_padding_is_masked():
    padded = order.pad({'label': np.array([5, 6], np.int32), 'image': np.ones((2, 3), np.uint8)}, rows=4)
    assert padded['label'].tolist() == [5, 6, 0, 0]
    assert padded['mask'].tolist() == [1, 1, 0, 0]
    assert padded['image'].sum() == 6 and padded['image'].dtype == np.uint8
