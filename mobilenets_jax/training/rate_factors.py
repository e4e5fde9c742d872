"""At which multiple of the learning rate each parameter learns."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mobilenets_jax.errors import UserError, check
from mobilenets_jax.trees import named_leaves


def check_pattern(field: str, pattern: str) -> None:
    """Raises `UserError` unless the pattern, a value of the field, is a regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise UserError(f'{field}={pattern!r} is no regular expression: {error}.') from error


def check_rate_factors(rate_factors: Any) -> None:
    """Raises `UserError` unless these are pairs of a regular expression and a factor that is not negative."""
    for entry in rate_factors if isinstance(rate_factors, list | tuple) else [rate_factors]:
        is_pair = isinstance(entry, list | tuple) and len(entry) == 2
        is_pair = is_pair and isinstance(entry[0], str) and type(entry[1]) in (int, float)
        example = "(('^backbone/', 0.1),)"
        check(is_pair, 'optimizer.rate_factors', entry, f'is no pair of a pattern and a factor, as in {example}')
        pattern, factor = entry
        check_pattern('optimizer.rate_factors', pattern)
        check(factor >= 0, f'optimizer.rate_factors of {pattern!r}', factor, 'must not be negative')


def factors_by_name(rate_factors: Sequence[tuple[str, float]], params: Any) -> dict[str, float]:
    """The multiple of the rate at which each parameter learns, by its path; `rate_factors` as of `create_optimizer`.

    Raises:
        UserError: as of `check_rate_factors`, or a pattern is found in no parameter.
    """
    check_rate_factors(rate_factors)
    names = list(named_leaves(params))
    for pattern, _ in rate_factors:
        found = any(re.search(pattern, name) for name in names)
        check(found, 'optimizer.rate_factors', pattern, f'is found in no parameter; one is {names[0]}')
    return {name: next((factor for pattern, factor in rate_factors if re.search(pattern, name)), 1.0) for name in names}


def scaled_rates(rate_factors: Sequence[tuple[str, float]]) -> optax.GradientTransformation:
    """Multiplies the updates of each parameter by its factor; arguments as of `factors_by_name`."""

    def init(params):
        factors_by_name(rate_factors, params)
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params
        factors = factors_by_name(rate_factors, updates).values()
        leaves = zip(jax.tree.leaves(updates), factors, strict=True)
        scaled = [jnp.zeros_like(leaf) if factor == 0 else factor * leaf for leaf, factor in leaves]
        return jax.tree.unflatten(jax.tree.structure(updates), scaled), state

    return optax.GradientTransformation(init, update)
