"""A trained network as a function of images alone."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from mobilenets_jax.ops import fuse


def freeze(model: nn.Module, variables: Mapping[str, Any]) -> Callable[[jax.Array], jax.Array]:
    """Makes the parameters constants of the compiled program.

    A network has some hundred arrays, and looking at them as arguments of each call takes a good part of the time of a
    single image. The function keeps the parameters that it was made with, whatever happens to `variables`. On a CPU,
    `jax.config.update('jax_cpu_enable_async_dispatch', False)`, before anything is computed, saves a single image the
    way to another thread and back.

    Args:
        model: see `create_model`.
        variables: its parameters and statistics.

    Returns:
        A function from images, float [N, H, W, 3], to logits, float32 [N, classes]; compiled when it meets a shape for
        the first time.
    """
    kept = jax.device_put(variables)
    return jax.jit(fuse(lambda images: model.apply(kept, images, train=False)[0]))
