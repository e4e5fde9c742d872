"""`fuse`: a function whose convolutions run together with what follows them, where that pays."""

import functools
from collections.abc import Callable

from mobilenets_jax.ops.backend import backend
from mobilenets_jax.ops.cpu import native
from mobilenets_jax.ops.cpu.program import fused_program


def fuse(function: Callable) -> Callable:
    """The same function, with fewer passes over memory on CPUs; on other devices XLA does that, and it is unchanged.

    The function is traced before it is differentiated. Chains of convolutions, normalisations and activations become
    the fused operations of `ops.cpu`, if nothing else reads the arrays between them.

    Args:
        function: takes and returns trees of arrays.
    """

    @functools.wraps(function)
    def fused(*args):
        if backend() != 'cpu' or not native.is_available():
            return function(*args)
        return fused_program(function, args)

    return fused
