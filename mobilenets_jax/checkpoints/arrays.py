"""The arrays of a checkpoint: how its meta describes them, what Orbax is handed, and whether they fit what a run asks.

On disk they are in nested dicts by the names of `trees.named_leaves`, whatever the classes of the state are.
"""

import json
import math
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mobilenets_jax.errors import UserError
from mobilenets_jax.trees import describe_leaf, named_leaves

PyTree = Any

MAX_STATE_BYTES = 1 << 36  # far above any state of a mobile network: what claims more is damaged or a bomb
_SMALLEST_SHARED_BYTES = 1 << 16  # what is smaller costs more to share out than to write


def describe(state: PyTree) -> dict[str, str]:
    """Dtype and shape of each leaf, by name."""
    return {name: describe_leaf(leaf) for name, leaf in named_leaves(state).items()}


def to_save(state: PyTree) -> ocp.args.StandardSave:
    """What Orbax is to save. Where there are several hosts, each writes its part of what is on the devices."""
    # Host arrays, though they may share memory with a buffer that the next step is given: Orbax copies those before
    # it returns. Arrays on the devices of one host it refuses when there are several.
    host_arrays = {name: np.asarray(leaf) for name, leaf in named_leaves(jax.device_get(state)).items()}
    shared: dict[str, np.ndarray | jax.Array] = {}
    if jax.process_count() > 1:
        large = [
            name
            for name, leaf in named_leaves(state).items()
            if isinstance(leaf, jax.Array) and leaf.nbytes >= _SMALLEST_SHARED_BYTES
        ]
        shared = {name: _shared_out(host_arrays[name]) for name in large}
    return ocp.args.StandardSave(unflatten_dict({**host_arrays, **shared}, sep='/'))


def _shared_out(array: np.ndarray) -> np.ndarray | jax.Array:
    """The array in equal parts on one device of each host; itself where it cannot be divided, for host 0 to write.

    Orbax has a way of its own to share out replicated arrays, which cuts them on the devices: that compiles a program
    for each cut, which takes seconds at the first save.
    """
    hosts = jax.process_count()
    axis = next((axis for axis, size in enumerate(array.shape) if size and size % hosts == 0), None)
    if axis is None:
        return array
    first_devices = {device.process_index: device for device in reversed(jax.devices())}
    mesh = Mesh([first_devices[host] for host in range(hosts)], ('host',))
    own = np.split(array, hosts, axis)[jax.process_index()]
    return jax.make_array_from_process_local_data(
        NamedSharding(mesh, PartitionSpec(*[None] * axis, 'host')), own, array.shape
    )


def to_restore(stored: dict[str, str]) -> ocp.args.StandardRestore:
    """What Orbax is to restore: all of it, as NumPy arrays.

    Args:
        stored: what `describe` said of the arrays.
    """
    return ocp.args.StandardRestore(nested_placeholders(stored))


def nested_placeholders(stored: dict[str, str]) -> dict[str, Any]:
    """Arrays as `describe` described them, in nested dicts; their values undefined."""
    return unflatten_dict({name: _empty(description) for name, description in stored.items()}, sep='/')


def check_size(checkpoint: str, stored: dict[str, str]) -> None:
    """Raises `UserError` where a checkpoint claims more than any state has, before memory is allocated for it.

    Args:
        checkpoint: what the message calls it.
        stored: what `describe` said of the arrays.
    """
    claimed = 0
    for name, description in stored.items():
        shape, dtype = _parsed(description)
        if min(shape, default=0) < 0 or dtype.kind == 'O':
            raise UserError(f'{checkpoint} describes {name} as {description!r}, which is no array.')
        claimed += math.prod(shape) * dtype.itemsize
    if claimed > MAX_STATE_BYTES:
        raise UserError(f'{checkpoint} claims {claimed} bytes of arrays; {MAX_STATE_BYTES} are the most that are read.')


def check_fit(checkpoint: str, stored: dict[str, str], target: PyTree, partial: bool) -> None:
    """Raises `UserError` naming the first array in which checkpoint and target differ. Orbax would cast a dtype.

    Args:
        checkpoint: what the message calls it.
        stored: what `describe` said of the arrays.
        target: arrays or jax.ShapeDtypeStructs.
        partial: whether the checkpoint may hold more than the target.
    """
    wanted = describe(target)
    for name in wanted if partial else wanted | stored:
        found, asked = stored.get(name, 'nothing'), wanted.get(name, 'nothing')
        if found != asked:
            raise UserError(f'{checkpoint} holds {found} at {name}; the run asks for {asked}.')


def pick(restored: dict[str, Any], target: PyTree) -> PyTree:
    """The restored arrays in the structure of `target`, which they are known to fit."""
    values = flatten_dict(restored, sep='/')
    return jax.tree.unflatten(jax.tree.structure(target), [values[name] for name in named_leaves(target)])


def _empty(description: str) -> np.ndarray:
    return np.empty(*_parsed(description))


def _parsed(description: str) -> tuple[list[int], np.dtype]:
    """The shape and dtype in what `describe` said of an array."""
    dtype, bracket, shape = description.partition('[')
    return json.loads(bracket + shape), np.dtype(dtype)
