"""What a run carries from step to step, and a hash by which two runs are compared."""

import hashlib
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

PyTree = Any


@flax.struct.dataclass
class TrainState:
    """Everything that a checkpoint holds of a run; a pytree whose leaves are the same on every device.

    Attributes:
        step: int32 scalar, the number of updates made.
        params: trainable parameters, float32.
        batch_stats: running means and variances, float32.
        opt_state: the optimizer's.
        ema_params: averaged parameters, or None without averaging.
        ema_batch_stats: averaged statistics, or None if they are not averaged.
    """

    step: jax.Array
    params: PyTree
    batch_stats: PyTree
    opt_state: optax.OptState
    ema_params: PyTree | None
    ema_batch_stats: PyTree | None

    def evaluated(self, which: str) -> tuple[PyTree, PyTree]:
        """The (params, batch_stats) to evaluate: 'raw', or 'ema' where they are averaged."""
        if which == 'raw' or self.ema_params is None:
            return self.params, self.batch_stats
        stats = self.batch_stats if self.ema_batch_stats is None else self.ema_batch_stats
        return self.ema_params, stats


def create_state(model, optimizer: optax.GradientTransformation, *, image_size: int, seed: int, ema) -> TrainState:
    """The state before the first step, the same on every process.

    Args:
        model: a module with the call contract of `mobilenets_jax.models`.
        optimizer: see `optimizers.create_optimizer`.
        image_size: in pixels.
        seed: of the initial parameters.
        ema: an `ema.EmaOptions`; decides whether averages are kept.
    """

    @jax.jit
    def initialise(key):
        images = jnp.zeros((1, image_size, image_size, 3), jnp.float32)
        variables = model.init(key, images, train=False)
        params, batch_stats = variables['params'], variables.get('batch_stats', {})
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=batch_stats,
            opt_state=optimizer.init(params),
            ema_params=params if ema.enabled else None,
            ema_batch_stats=batch_stats if ema.enabled and ema.batch_stats else None,
        )

    return initialise(jax.random.key(seed))


def parameter_names(tree: PyTree) -> list[str]:
    """The path of every leaf, e.g. 'backbone/stem/conv/kernel', in the order of `jax.tree.leaves`."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in paths]


def tree_sha256(tree: PyTree) -> str:
    """A hash of all leaves' names, dtypes, shapes and bytes, in the order of their names."""
    digest = hashlib.sha256()
    for name, leaf in sorted(zip(parameter_names(tree), jax.tree.leaves(tree), strict=True), key=lambda item: item[0]):
        array = np.asarray(leaf)
        digest.update(f'{name} {array.dtype} {array.shape}\n'.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def num_params(params: PyTree) -> int:
    """The number of trainable parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
