"""At which multiple of the learning rate each parameter learns: by patterns, and by the depth of its layer.

Paper: decay of the rate by depth, Clark et al., ELECTRA, 2003.10555; for images Bao et al., BEiT, 2106.08254.
Reference: timm optim/_param_groups.py@aa4b585 (`param_groups_layer_decay`).
Differs: the last convolution is always a layer of its own; timm's MobileNetV2 counts it to the head.
"""

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


def check_layer_decay(layer_decay: float) -> None:
    """Raises `UserError` unless this is in (0, 1]."""
    check(0 < layer_decay <= 1, 'optimizer.layer_decay', layer_decay, 'must be in (0, 1], where 1 is none')


def factors_by_name(
    rate_factors: Sequence[tuple[str, float]], params: Any, layer_decay: float = 1.0
) -> dict[str, float]:
    """The multiple of the rate at which each parameter learns, by its path.

    Args:
        rate_factors: (regular expression, factor): parameters whose path the expression is found in learn at that
            multiple of the rate, 0 not at all (see `frozen`); the first that is found counts.
        params: arrays or their shapes.
        layer_decay: in (0, 1]; the multiple has this factor, too, once for the layer below the head (the last
            convolution or block), twice for the one below that, and so on down to the stem.

    Raises:
        UserError: as of `check_rate_factors` and `check_layer_decay`, a pattern is found in no parameter, or there are
            no layers.
    """
    check_rate_factors(rate_factors)
    check_layer_decay(layer_decay)
    names = list(named_leaves(params))
    for pattern, _ in rate_factors:
        found = any(re.search(pattern, name) for name in names)
        check(found, 'optimizer.rate_factors', pattern, f'is found in no parameter; one is {names[0]}')
    by_depth = _factors_of_layers(names, layer_decay) if layer_decay != 1 else dict.fromkeys(names, 1.0)

    def by_pattern(name: str) -> float:
        return next((factor for pattern, factor in rate_factors if re.search(pattern, name)), 1.0)

    return {name: by_pattern(name) * by_depth[name] for name in names}


def _factors_of_layers(names: Sequence[str], layer_decay: float) -> dict[str, float]:
    """1 for the head, and from layer to layer down to the stem `layer_decay` times as much."""
    places = {name: _place(name) for name in names}
    order = sorted(set(places.values()))
    check(len(order) > 1, 'optimizer.layer_decay', layer_decay, 'needs a network with a backbone')
    return {name: layer_decay ** (len(order) - 1 - order.index(place)) for name, place in places.items()}


def _place(name: str) -> tuple[int, int]:
    """Where the layer of a parameter is in the network: stem, blocks, last convolution, and the head as one."""
    part, _, inside = name.partition('/')
    if part != 'backbone':
        return (3, 0)
    block = re.match(r'block(\d+)/', inside)
    if block:
        return (1, int(block[1]))
    return (0, 0) if inside.startswith('stem/') else (2, 0)


def scaled_rates(rate_factors: Sequence[tuple[str, float]], layer_decay: float = 1.0) -> optax.GradientTransformation:
    """Multiplies the updates of each parameter by its factor; arguments as of `factors_by_name`."""

    def init(params):
        factors_by_name(rate_factors, params, layer_decay)
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params
        factors = factors_by_name(rate_factors, updates, layer_decay).values()
        leaves = zip(jax.tree.leaves(updates), factors, strict=True)
        scaled = [jnp.zeros_like(leaf) if factor == 0 else factor * leaf for leaf, factor in leaves]
        return jax.tree.unflatten(jax.tree.structure(updates), scaled), state

    return optax.GradientTransformation(init, update)
