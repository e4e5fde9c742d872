"""Gradients of operations that have native ops, but only for their values."""

import functools
from collections.abc import Callable

import jax


def differentiated_as(plain: Callable, static: int = 0) -> Callable[[Callable], Callable]:
    """Makes a decorator that gives an operation the reverse-mode gradient of `plain`, its form in plain JAX.

    Args:
      plain: takes the arguments of the operation, and comes to the same.
      static: how many of the first arguments are hashable, without gradient; the others are arrays or trees of them.
    """

    def decorate(operation: Callable) -> Callable:
        differentiable = jax.custom_vjp(operation, nondiff_argnums=tuple(range(static)))

        def forward(*arguments):
            return differentiable(*arguments), arguments[static:]

        def backward(*arguments):
            *options, arrays, gradient = arguments
            return jax.vjp(functools.partial(plain, *options), *arrays)[1](gradient)

        differentiable.defvjp(forward, backward)
        return differentiable

    return decorate
