"""Exponential moving averages of parameters and batch-norm statistics, as `tf.train.ExponentialMovingAverage`.

Reference: TensorFlow's `ExponentialMovingAverage(decay, num_updates=step)`: the average starts as a copy, is not
    de-biased, and its decay ramps up as (1 + n) / (10 + n), so that a short run does not average its first steps.
    tensorflow/tpu models/official/efficientnet/utils.py `get_ema_vars` averages the moving statistics too.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mobilenets_jax.errors import check


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmaOptions:
    """How parameters are averaged.

    Attributes:
        decay: weight of the old average, in [0, 1); 0 keeps no average.
        ramp: whether the decay is at most (1 + n) / (10 + n) at update n.
        batch_stats: whether the running statistics are averaged as well.
    """

    decay: float
    ramp: bool = True
    batch_stats: bool = True

    def __post_init__(self):
        check(0.0 <= self.decay < 1.0, 'ema.decay', self.decay, 'must be in [0, 1)')

    @property
    def enabled(self) -> bool:
        """Whether averages are kept at all."""
        return self.decay > 0

    def update(self, average: Any, value: Any, step: jax.Array) -> Any:
        """The average of a pytree after update number `step` (counted from 1)."""
        decay = jnp.asarray(self.decay, jnp.float32)
        if self.ramp:
            decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
        return jax.tree.map(lambda old, new: old - (1.0 - decay).astype(old.dtype) * (old - new), average, value)
