"""The activations of the family, by their names in tables and configs."""

from collections.abc import Callable

import jax

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'linear': lambda x: x,
    'relu': jax.nn.relu,
    'relu6': jax.nn.relu6,
    'swish': jax.nn.swish,
    'hard_swish': jax.nn.hard_swish,
    'sigmoid': jax.nn.sigmoid,
    'hard_sigmoid': jax.nn.hard_sigmoid,
}
