"""Sums over the pixels of a batch, several in one pass."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax


def sum_together(arrays: Sequence[jax.Array], axis: int) -> list[jax.Array]:
    """Sums each of `arrays`, all of one shape, along `axis`, all in one pass over what they are computed from."""
    zeros = [jnp.zeros((), array.dtype) for array in arrays]
    return lax.reduce(
        list(arrays), zeros, lambda totals, terms: [a + b for a, b in zip(totals, terms, strict=True)], (axis,)
    )


def pixel_sums(arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Sums each of `arrays` [N, H, W, C] over N, H and W, to [C].

    The rows first, all arrays together: XLA:CPU then computes the arrays inside of that loop, where for one full
    reduction each it would write them to memory and read them again.
    """
    return [jnp.sum(rows, axis=(0, 1)) for rows in sum_together(arrays, axis=2)]  # [N, H, C] each
