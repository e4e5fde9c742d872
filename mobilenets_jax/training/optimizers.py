"""Optimizers by name, and the parameters that weight decay leaves alone.

Paper: RMSProp with momentum 0.9 in all MobileNet papers; LAMB, You et al., 1904.00962.
Reference: `tf.train.RMSPropOptimizer`. `optax.rmsprop` with `initial_scale=1.0` is that rule: the mean square starts at
    1, epsilon stands inside the square root, and momentum accumulates updates already multiplied by the learning rate.
    optax's defaults (initial scale 0) and PyTorch's rule (epsilon outside, rate after the momentum) are not.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.training.rate_factors import check_layer_decay, check_pattern, scaled_rates
from mobilenets_jax.training.schedules import Schedule
from mobilenets_jax.trees import named_leaves


def rmsprop(
    schedule: Schedule, *, momentum: float = 0.9, nesterov: bool = False, decay: float = 0.9, epsilon: float = 1e-3
) -> optax.GradientTransformation:
    """TensorFlow's rule: `decay` is of the mean square, `epsilon` inside the square root."""
    return optax.rmsprop(
        schedule, decay, epsilon, initial_scale=1.0, eps_in_sqrt=True, momentum=momentum, nesterov=nesterov
    )


def sgd(schedule: Schedule, *, momentum: float = 0.9, nesterov: bool = False) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum."""
    return optax.sgd(schedule, momentum, nesterov)


def adamw(
    schedule: Schedule, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-3
) -> optax.GradientTransformation:
    """Adam, `epsilon` outside the square root; the decay that makes it AdamW is added to whatever rule there is."""
    return optax.adam(schedule, beta1, beta2, epsilon)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightDecayOptions:
    """How parameters are drawn to zero.

    Attributes:
        rate: 0 for none.
        decoupled: whether `rate * learning_rate * w` is taken off each parameter (as AdamW; of LAMB see `lamb`); else
            `rate / 2 * sum(w^2)` is added to the loss (TensorFlow's `l2_loss`), and its gradient passes through the
            optimizer.
        skip: regular expressions; a parameter whose path one of them is found in is left alone.
    """

    rate: float
    decoupled: bool = False
    skip: Sequence[str] = ()

    def __post_init__(self):
        check(self.rate >= 0, 'weight_decay.rate', self.rate, 'must not be negative')
        for pattern in self.skip:
            check_pattern('weight_decay.skip', pattern)

    def mask(self, params: Any) -> Any:
        """A pytree of booleans like `params`: True where weight decay applies."""
        decayed = [not any(re.search(pattern, name) for pattern in self.skip) for name in named_leaves(params)]
        return jax.tree.unflatten(jax.tree.structure(params), decayed)

    def describe(self, params: Any) -> str:
        """Which parameters are decayed and which pattern skips how many, in a few lines."""
        if not self.rate:
            return 'weight decay: none'
        names = list(named_leaves(params))
        decayed = sum(jax.tree.leaves(self.mask(params)))
        kind = 'decoupled' if self.decoupled else 'L2 in the loss'
        lines = [f'weight decay {self.rate:g} ({kind}) on {decayed} of {len(names)} arrays; skipped:']
        for pattern in self.skip:
            found = [name for name in names if re.search(pattern, name)]
            example = f', e.g. {found[0]}' if found else ''
            lines.append(f'  {pattern!r}: {len(found)} arrays{example}')
        return '\n'.join(lines)

    def l2_loss(self, params: Any) -> jax.Array:
        """`rate / 2 * sum(w^2)` over the decayed parameters; 0 where the decay is decoupled."""
        if self.decoupled or not self.rate:
            return jnp.zeros(())
        chosen = zip(jax.tree.leaves(params), jax.tree.leaves(self.mask(params)), strict=True)
        return self.rate / 2 * sum(jnp.sum(jnp.square(leaf)) for leaf, decayed in chosen if decayed)


def lamb(
    schedule: Schedule,
    weight_decay: WeightDecayOptions | None = None,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-3,
) -> optax.GradientTransformation:
    """Adam whose update of each array is scaled to the array's norm, for large batches; `optax.lamb`.

    A decoupled decay belongs to the update that is scaled: `rate * w` is added before, not taken off after.
    """
    decay = {} if weight_decay is None else {'weight_decay': weight_decay.rate, 'mask': weight_decay.mask}
    return optax.lamb(schedule, beta1, beta2, epsilon, **decay)


# The keyword-only arguments of each are the fields of the config that it takes.
OPTIMIZERS = {'adamw': adamw, 'lamb': lamb, 'rmsprop': rmsprop, 'sgd': sgd}


def create_optimizer(
    name: str,
    schedule: Schedule,
    *,
    clip_norm: float | None = None,
    weight_decay: WeightDecayOptions | None = None,
    rate_factors: Sequence[tuple[str, float]] = (),
    layer_decay: float = 1.0,
    **fields,
) -> optax.GradientTransformation:
    """An optax optimizer whose updates are added to the parameters.

    Args:
        name: a key of `OPTIMIZERS`.
        schedule: from the step to the learning rate.
        clip_norm: gradients are scaled down to this global L2 norm; None never clips.
        weight_decay: applied here if it is decoupled; as a loss term it is the step's.
        rate_factors: see `rate_factors.factors_by_name`.
        layer_decay: see there.
        **fields: the keyword-only arguments of the rule.

    Raises:
        UserError: for an unknown name or a value out of its range.
    """
    check_choice('optimizer.name', name, OPTIMIZERS)
    check(clip_norm is None or clip_norm > 0, 'optimizer.clip_norm', clip_norm, 'must be positive')
    for field, value in fields.items():
        if field == 'epsilon':
            check(value > 0, 'optimizer.epsilon', value, 'must be positive')
        elif field != 'nesterov':
            check(0.0 <= value < 1.0, f'optimizer.{field}', value, 'must be in [0, 1)')
    check_layer_decay(layer_decay)
    decoupled = weight_decay if weight_decay is not None and weight_decay.decoupled and weight_decay.rate else None
    chain = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    if name == 'lamb':
        chain.append(lamb(schedule, decoupled, **fields))
    else:
        chain.append(OPTIMIZERS[name](schedule, **fields))
        if decoupled is not None:
            chain.append(_decoupled_weight_decay(schedule, decoupled))
    if rate_factors or layer_decay != 1:
        chain.append(scaled_rates(rate_factors, layer_decay))
    return optax.chain(*chain)


class _CountState(NamedTuple):
    count: jax.Array


def _decoupled_weight_decay(schedule: Schedule, options: WeightDecayOptions) -> optax.GradientTransformation:
    """Takes `rate * learning_rate * w` off, after the optimizer, so that no momentum accumulates it."""

    def init(params):
        del params
        return _CountState(jnp.zeros((), jnp.int32))

    def update(updates, state, params):
        factor = options.rate * schedule(state.count)
        decayed = jax.tree.map(
            lambda update, param, decays: update - (factor * param).astype(update.dtype) if decays else update,
            updates,
            params,
            options.mask(params),
        )
        return decayed, _CountState(state.count + 1)

    return optax.GradientTransformation(init, update)
