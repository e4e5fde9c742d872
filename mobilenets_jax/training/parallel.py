"""The only place that knows how a step is spread over devices: `jax.pmap` with `axis_name='batch'`.

State is replicated and un-stacked: every device holds a copy, and arrays keep their plain shapes (`in_axes=None`).
Batches carry a leading [local_devices] axis. A step must reduce whatever it returns over the axis, because a value
returned with `out_axes=None` is taken to be the same on all devices without a check.

A search trains candidates, which are states of their own, and nothing is reduced: those of one shape are stacked,
others stand on a device each, with a program of their own.
"""

import collections
import zlib
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

PyTree = Any

AXIS_NAME = 'batch'


def _sharding(*partitions: str) -> NamedSharding:
    mesh = Mesh(np.asarray(jax.local_devices()), (AXIS_NAME,))
    return NamedSharding(mesh, PartitionSpec(*partitions))


def replicate(tree: PyTree) -> PyTree:
    """Puts a copy of every leaf on each local device.

    The step donates its state. Donating an array that does not have this sharding yet costs a copy with one process
    and fails with several, so every state goes through here before its first step.
    """
    return jax.device_put(tree, _sharding())


def to_host(tree: PyTree) -> PyTree:
    """NumPy copies of the leaves of a replicated tree; waits for their computation."""
    return jax.tree.map(lambda leaf: np.array(leaf.addressable_shards[0].data), tree)


def parallel_train_step(
    step: Callable, devices: Sequence[jax.Device] | None = None, constants: PyTree | None = None
) -> Callable:
    """Maps `step(state, batch) -> (state, metrics)` over all devices of all processes; donates the state.

    Args:
        step: of one device.
        devices: others to compile it for.
        constants: host arrays that every step takes as a third argument, a copy on each device; None: it takes none.
    """
    in_axes = (None, 0) if constants is None else (None, 0, None)
    mapped = jax.pmap(
        step, axis_name=AXIS_NAME, in_axes=in_axes, out_axes=(None, None), donate_argnums=0, devices=devices
    )
    return mapped if constants is None else _StepWithConstants(mapped, constants)


class _StepWithConstants:
    """A mapped step whose third argument is always the same; it is put on the devices when the first one is made."""

    def __init__(self, step: Any, constants: PyTree):
        self._step, self._constants, self._on_devices = step, constants, None

    def __call__(self, state: PyTree, batch: PyTree) -> tuple[PyTree, PyTree]:
        if self._on_devices is None:
            self._on_devices = replicate(self._constants)
        return self._step(state, batch, self._on_devices)

    def lower(self, state: PyTree, batch: PyTree) -> jax.stages.Lowered:
        """As of the mapped step."""
        return self._step.lower(state, batch, self._constants)


def parallel_eval_step(step: Callable) -> Callable:
    """Maps `step(params, batch_stats, batch) -> (sums, rows)` over all devices of all processes."""
    return jax.pmap(step, axis_name=AXIS_NAME, in_axes=(None, None, 0), out_axes=None)


def parallel_candidates(step: Callable, *, donate: bool = False) -> Callable:
    """Maps a step over all devices of all processes, each with arguments and results of its own, [local_devices, ...].

    Args:
        step: of one device; it may not reduce over the devices.
        donate: whether the first argument is donated.
    """
    return jax.pmap(step, donate_argnums=0 if donate else ())


def single_device_step(step: Callable, *, donate: bool = False) -> Callable:
    """Compiles a step for the device that its arguments are on; its last argument is a batch with a leading axis of 1.

    So each device can run a step of its own: states and programs may differ from device to device.

    Args:
        step: of one device; it may not reduce over the devices.
        donate: whether the first argument is donated.
    """

    def unstacked(*arguments):
        *others, batch = arguments
        return step(*others, jax.tree.map(lambda leaf: leaf[0], batch))

    return jax.jit(unstacked, donate_argnums=0 if donate else ())


def local_shards(leaf: jax.Array) -> list[Any]:
    """What this process's devices have of an array with a leading axis of devices, in their order."""
    return sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)


def of_devices(tree: PyTree) -> list[PyTree]:
    """What each local device has of a tree as `put_batches` yields it, with a leading axis of 1."""
    leaves, structure = jax.tree.flatten(tree)
    shards = [local_shards(leaf) for leaf in leaves]
    devices = range(jax.local_device_count())
    return [jax.tree.unflatten(structure, [own[device].data for own in shards]) for device in devices]


def put_on(tree: PyTree, device: int) -> PyTree:
    """Puts a tree on the local device of this number, in the order of `of_devices`."""
    return jax.device_put(tree, jax.local_devices()[device])


def put_stacked(trees: Sequence[PyTree]) -> PyTree:
    """Puts one tree of host arrays on each local device, stacked to [local_devices, ...]."""
    return jax.device_put(jax.tree.map(lambda *leaves: np.stack(leaves), *trees), _sharding(AXIS_NAME))


def copy_checksums(tree: PyTree) -> list[list[int]]:
    """For each local device, a checksum of each leaf of its copy of a replicated tree; waits for their computation."""
    copies = jax.tree.map(lambda leaf: [shard.data for shard in leaf.addressable_shards], tree)
    by_leaf = jax.tree.leaves(jax.device_get(copies), is_leaf=lambda node: isinstance(node, list))
    return [[zlib.crc32(leaf[i].ravel().view(np.uint8)) for leaf in by_leaf] for i in range(jax.local_device_count())]


def put_batches(batches: Iterable[PyTree], *, ahead: int = 2) -> Generator[PyTree, None, None]:
    """Yields batches already on the devices, read and transferred by a thread that keeps `ahead` of them ready.

    Args:
        batches: trees of NumPy arrays with leading [local_devices, per_device].
        ahead: batches that wait on the devices.

    Yields:
        The same trees as device arrays, in order. An exception of `batches` is raised here.
    """
    sharding = _sharding(AXIS_NAME)
    iterator = iter(batches)
    end = object()

    def read():
        batch = next(iterator, end)
        return end if batch is end else jax.device_put(batch, sharding)

    reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix='put_batches')
    try:
        pending = collections.deque(reader.submit(read) for _ in range(ahead))
        while (batch := pending.popleft().result()) is not end:
            pending.append(reader.submit(read))
            yield batch
    finally:
        reader.shutdown(cancel_futures=True)
