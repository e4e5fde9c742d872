"""Reads TensorFlow checkpoints, as slim and the TensorFlow Model Garden write them."""

import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mobilenets_jax.weights.readers.contents import Contents
from mobilenets_jax.weights.readers.errors import UnreadableFileError, check_bytes

EMA = '/ExponentialMovingAverage'
# State of an optimizer stored with the weights, and counters.
_STATE = ('/RMSProp', '/RMSProp_1', '/Momentum', '/Adam', '/Adam_1')
_SLOT = '/.OPTIMIZER_SLOT/'
_COUNTERS = ('global_step', '_CHECKPOINTABLE_OBJECT_GRAPH', 'save_counter')
_OBJECT_VALUE = '/.ATTRIBUTES/VARIABLE_VALUE'


def read(path: pathlib.Path) -> Contents:
    """The variables of the checkpoint with the prefix `path` (or its .index file) by name.

    If the checkpoint has moving averages of the weights, these are read as the weights, as in its evaluation.
    """
    import tensorflow as tf

    prefix = str(path).removesuffix('.index')
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        names = [name for name in shapes if not _is_state(name)]
        _check_sizes(pathlib.Path(prefix), {name: (shapes[name], dtypes[name].as_numpy_dtype) for name in names})
        arrays = {name: reader.get_tensor(name) for name in names if not name.endswith(EMA)}
        arrays |= {name.removesuffix(EMA): reader.get_tensor(name) for name in names if name.endswith(EMA)}
    except (tf.errors.OpError, RuntimeError) as error:
        raise UnreadableFileError(str(error).partition('\n')[0]) from error
    return Contents({name.removesuffix(_OBJECT_VALUE): np.asarray(array) for name, array in arrays.items()})


def _check_sizes(prefix: pathlib.Path, claims: Mapping[str, tuple[Sequence[int], type]]) -> None:
    """Raises `UnreadableFileError` where an index claims more than its shards hold, each by itself or all together.

    Args:
        prefix: of the checkpoint.
        claims: shape and dtype of each variable, by its name.
    """
    shards = [path for path in prefix.parent.iterdir() if path.name.startswith(f'{prefix.name}.data-')]
    held = sum(shard.stat().st_size for shard in shards)
    check_bytes('its shards have', held)
    sizes = {}
    for name, (shape, dtype) in claims.items():
        if np.dtype(dtype).kind == 'O':
            raise UnreadableFileError(f'{name} is a text, no array of numbers')
        sizes[name] = math.prod(shape) * np.dtype(dtype).itemsize
        if sizes[name] > held:
            raise UnreadableFileError(f'{name} has {sizes[name]} bytes, of which the shards hold {held}')
    check_bytes('its variables have', sum(sizes.values()))


def _is_state(name: str) -> bool:
    if name.startswith('optimizer/') or _SLOT in name:
        return True
    return name.endswith(_STATE) or name.removesuffix(_OBJECT_VALUE) in _COUNTERS
