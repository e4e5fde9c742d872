"""Reads TensorFlow checkpoints, as slim and the TensorFlow Model Garden write them."""

import pathlib

import numpy as np

from mobilenets_jax.weights.readers.contents import Contents
from mobilenets_jax.weights.readers.errors import UnreadableFileError

EMA = '/ExponentialMovingAverage'
# What an optimizer keeps beside the weights, and counters.
_STATE = ('/RMSProp', '/RMSProp_1', '/Momentum', '/Adam', '/Adam_1')
_SLOT = '/.OPTIMIZER_SLOT/'
_COUNTERS = ('global_step', '_CHECKPOINTABLE_OBJECT_GRAPH', 'save_counter')
_OBJECT_VALUE = '/.ATTRIBUTES/VARIABLE_VALUE'


def read(path: pathlib.Path) -> Contents:
    """The variables of the checkpoint with the prefix `path` (or its .index file) by name.

    Where the checkpoint keeps moving averages of the weights, they stand for the weights, as in its evaluation.
    """
    import tensorflow as tf

    prefix = str(path).removesuffix('.index')
    try:
        reader = tf.train.load_checkpoint(prefix)
        names = [name for name in reader.get_variable_to_shape_map() if not _is_state(name)]
        arrays = {name: reader.get_tensor(name) for name in names if not name.endswith(EMA)}
        arrays |= {name.removesuffix(EMA): reader.get_tensor(name) for name in names if name.endswith(EMA)}
    except (tf.errors.OpError, RuntimeError) as error:
        raise UnreadableFileError(str(error).partition('\n')[0]) from error
    return Contents({name.removesuffix(_OBJECT_VALUE): np.asarray(array) for name, array in arrays.items()})


def _is_state(name: str) -> bool:
    if name.startswith('optimizer/') or _SLOT in name:
        return True
    return name.endswith(_STATE) or name.removesuffix(_OBJECT_VALUE) in _COUNTERS
