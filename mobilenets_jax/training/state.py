"""What a run carries from step to step, and a hash by which two runs are compared."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mobilenets_jax.image_size import ImageSize, height_and_width
from mobilenets_jax.training.ema import EmaOptions
from mobilenets_jax.trees import named_leaves

PyTree = Any


@flax.struct.dataclass
class TrainState:
    """Everything that a checkpoint holds of a run; a pytree whose leaves are the same on every device.

    Attributes:
        step: int32 scalar, the number of updates made.
        params: trainable parameters, float32 (float64 for float64 networks).
        batch_stats: running means and variances, likewise.
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


def evaluated_variables(state: Mapping[str, PyTree], which: str) -> tuple[PyTree, PyTree]:
    """The (params, batch_stats) to evaluate.

    Args:
        state: has the fields 'params', 'batch_stats', 'ema_params' and 'ema_batch_stats' of a `TrainState`.
        which: 'raw', or 'ema' for the averages; statistics that are not averaged are taken raw.
    """
    if which == 'raw' or state['ema_params'] is None:
        return state['params'], state['batch_stats']
    averaged = state['ema_batch_stats']
    return state['ema_params'], state['batch_stats'] if averaged is None else averaged


def init_variables(model: Any, key: jax.Array, image_size: ImageSize) -> tuple[PyTree, PyTree]:
    """The (params, batch_stats) that a model starts with.

    Args:
        model: a module with the call contract of `mobilenets_jax.models`.
        key: random.
        image_size: height and width in pixels; one number for both.
    """
    images = jnp.zeros((1, *height_and_width(image_size), 3), jnp.float32)
    variables = model.init(key, images, train=False)
    params = variables['params']
    # Flax starts statistics in float32 always; in a float64 network they would change their dtype at the first update.
    dtype = jnp.result_type(*jax.tree.leaves(params))
    return params, jax.tree.map(lambda leaf: leaf.astype(dtype), variables.get('batch_stats', {}))


def make_init(
    model: Any, optimizer: optax.GradientTransformation, *, image_size: ImageSize, ema: EmaOptions
) -> Callable[[jax.Array], TrainState]:
    """A pure function from a random key to the state before the first step.

    Args:
        model: a module with the call contract of `mobilenets_jax.models`.
        optimizer: see `optimizers.create_optimizer`.
        image_size: as in `init_variables`.
        ema: decides which averages are kept.
    """

    def init(key: jax.Array) -> TrainState:
        params, batch_stats = init_variables(model, key, image_size)
        return first_state(params, batch_stats, optimizer, ema)

    return init


def first_state(
    params: PyTree, batch_stats: PyTree, optimizer: optax.GradientTransformation, ema: EmaOptions
) -> TrainState:
    """The state before the first step of a run that starts from some variables."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        ema_params=params if ema.enabled else None,
        ema_batch_stats=batch_stats if ema.enabled and ema.batch_stats else None,
    )


def create_state(init: Callable[[jax.Array], TrainState], seed: int) -> TrainState:
    """Runs what `make_init` returned; the same on every process."""
    # XLA:CPU takes three times as long to optimize the draws of some hundred arrays as to compile them plainly.
    options = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else None
    return jax.jit(init, compiler_options=options)(jax.random.key(seed))


def tree_sha256(tree: PyTree) -> str:
    """A hash of all leaves' names, dtypes, shapes and bytes, in the order of their names."""
    digest = hashlib.sha256()
    for name, leaf in sorted(named_leaves(tree).items()):
        array = np.asarray(leaf)
        digest.update(f'{name} {array.dtype} {array.shape}\n'.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def num_params(params: PyTree) -> int:
    """The number of trainable parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
