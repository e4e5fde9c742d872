"""The example at each position, and the process that reads it: the order that every source follows.

Training reads a stream that never ends: one permutation of all examples per epoch, one after the other, nothing left
out. Position p of it is in epoch p // n at offset p % n. Global batch b holds positions [b * B, (b + 1) * B) and may
span epochs. A process reads a contiguous share of every global batch and splits it over its devices in order, so
neither the number of processes nor of devices changes what a global batch holds.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import numpy as np

from mobilenets_jax.data.options import DataOptions
from mobilenets_jax.errors import check


@dataclasses.dataclass(frozen=True)
class Layout:
    """Who reads which rows: this process among all of them, and the devices that it feeds.

    Attributes:
        process_index: this process, 0 <= process_index < process_count.
        process_count: processes in the run, each with as many devices.
        local_device_count: devices of this process.
    """

    process_index: int
    process_count: int
    local_device_count: int

    def rows(self, batch_size: int) -> range:
        """The rows of each global batch that this process reads; `UserError` if they do not divide over all devices."""
        devices = self.process_count * self.local_device_count
        check(batch_size % devices == 0, 'batch_size', batch_size, f'must be divisible by the {devices} devices')
        share = batch_size // self.process_count
        return range(self.process_index * share, (self.process_index + 1) * share)

    def split_over_devices(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Reshapes every array [rows, ...] to [local_devices, per_device, ...]."""
        return {key: value.reshape(self.local_device_count, -1, *value.shape[1:]) for key, value in batch.items()}


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """A permutation of range(n), int64 [n], that depends on its arguments alone.

    It sorts raw Philox output, because NumPy promises the bits of a bit generator for ever, but not the values of
    `Generator.permutation`; a run resumed under another NumPy must see the same order.
    """
    keys = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(n)
    return np.argsort(keys, kind='stable')


def train_rows(n: int, options: DataOptions, layout: Layout, start: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields for ever this process's rows of each global batch, as (epoch, index), both int32 [rows].

    With `options.repeated_augmentation` = r > 1 a batch of B rows holds the next B / r examples of the stream r times,
    copy after copy, so that neighbours are different examples. Then 'epoch' counts the copies: it is r times the epoch,
    plus the number of the copy, which makes every copy's augmentation another.

    Args:
        n: examples in the training set.
        options: batch size (may exceed n), seed of the order, and copies of each example.
        layout: which rows are this process's.
        start: position in the stream of the first batch's first row, copies counted.
    """
    repeats = options.repeated_augmentation
    own = np.asarray(layout.rows(options.batch_size), np.int64)
    copy, example = np.divmod(own, options.batch_size // repeats)
    order = functools.lru_cache(maxsize=1)(lambda epoch: permutation(options.seed, epoch, n))
    for batch_start in itertools.count(start, options.batch_size):
        epoch, offset = np.divmod(batch_start // repeats + example, n)
        index = np.empty_like(offset)
        for value in np.unique(epoch):
            rows = epoch == value
            index[rows] = order(int(value))[offset[rows]]
        yield (repeats * epoch + copy).astype(np.int32), index.astype(np.int32)


def eval_rows(n: int, batch_size: int, layout: Layout) -> Iterator[np.ndarray]:
    """Yields this process's example indices, int32 [<= rows], in each of the ceil(n / batch_size) global batches.

    Only the last batch can be incomplete, and a process whose rows are all after the last example gets none of it;
    every process gets the same number of batches.
    """
    own = layout.rows(batch_size)
    for batch_start in range(0, n, batch_size):
        yield np.arange(min(batch_start + own.start, n), min(batch_start + own.stop, n), dtype=np.int32)


def pad(batch: dict[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    """Pads arrays [k <= rows, ...] with zeros to [rows, ...] and adds 'mask', float32 [rows]: 1 real, 0 padding."""
    count = len(next(iter(batch.values())))
    padded = {
        key: np.concatenate([value, np.zeros((rows - count, *value.shape[1:]), value.dtype)])
        for key, value in batch.items()
    }
    return padded | {'mask': (np.arange(rows) < count).astype(np.float32)}
