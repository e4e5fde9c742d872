"""The training state that the checkpoint tests save, and comparisons of what comes back. No test in here."""

import hashlib
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mobilenets_jax.identity import Identity, network_fields

NETWORK = network_fields({'model': {'name': 'mobilenet_v3_large', 'width_multiplier': 1.0, 'convention': 'keras'}})
FIELDS = NETWORK | {'num_classes': 10}
IDENTITY = Identity(fields=FIELDS, class_names=tuple('0123456789'))
WIDTH = 512  # a state of 4 MB: a save takes long enough to be killed in each of its phases


@flax.struct.dataclass
class State:
    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any


def make_state(seed: int, width: int = 8) -> State:
    """A small state with every kind of leaf, all NumPy; `seed` makes the values, `width` the size: 16 width² bytes."""

    def structure() -> State:
        params = {
            'stem': {'kernel': jnp.zeros((width, width)), 'scale': jnp.zeros(width, jnp.bfloat16)},
            'head': {'bias': jnp.zeros(10)},
        }
        schedule = optax.cosine_decay_schedule(0.1, 100)
        tx = optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.rmsprop(schedule, decay=0.9, eps=0.002, momentum=0.9, initial_scale=1.0),
        )
        return State(
            step=jnp.int32(0),
            params=params,
            batch_stats={'stem': {'mean': jnp.zeros(width), 'seen': jnp.array(False)}},
            opt_state=tx.init(params),
            ema={'params': params, 'count': jnp.uint32(0)},
        )

    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: generator.uniform(0, 100, leaf.shape).astype(leaf.dtype), jax.eval_shape(structure)
    )


def replicated(state: State) -> State:
    """Puts a state on all local devices, whole on each, as the training loop holds it."""
    return jax.device_put(state, NamedSharding(Mesh(jax.local_devices(), ('batch',)), PartitionSpec()))


def digest(tree: Any) -> str:
    """SHA-256 over path, dtype, shape and bytes of every leaf."""
    result = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        result.update(f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape} '.encode() + array.tobytes())
    return result.hexdigest()
