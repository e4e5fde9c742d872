"""What does not learn: parameters whose `optimizer.rate_factors` is 0, and the modules that they make up.

A module is frozen if all of its parameters are. It then runs as in evaluation while the others train: its batch norms
normalise by their running statistics, which stay as they are, and nothing in it is dropped. A batch norm of which only
a kernel before it is frozen goes on learning, its statistics, too.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from mobilenets_jax.errors import check
from mobilenets_jax.training.rate_factors import factors_by_name
from mobilenets_jax.trees import named_leaves

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Frozen:
    """The frozen parts of a network.

    Attributes:
        params: paths of parameters, e.g. 'backbone/stem/conv/kernel'.
        modules: paths of the modules whose parameters are all frozen, e.g. 'backbone/stem'.
    """

    params: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()

    @classmethod
    def by_rate_factors(cls, rate_factors: Sequence[tuple[str, float]], params: PyTree) -> 'Frozen':
        """What the factors of 0 freeze of `params`, arrays or their shapes; see `optimizers.create_optimizer`.

        Raises:
            UserError: a pattern or a factor is wrong, or nothing is left to learn.
        """
        factors = factors_by_name(rate_factors, params)
        frozen = {name for name, factor in factors.items() if factor == 0}
        check(len(frozen) < len(factors), 'optimizer.rate_factors', rate_factors, 'freezes all parameters')
        learning = {module for name in factors.keys() - frozen for module in _modules_around(name)}
        modules = {module for name in frozen for module in _modules_around(name)}
        return cls(frozenset(frozen), frozenset(modules - learning))

    def describe(self, params: PyTree) -> str:
        """How much is frozen, and which modules as a whole, in a line."""
        modules = ', '.join(self._roots[:3])
        more = f' and {len(self._roots) - 3} more' if len(self._roots) > 3 else ''
        whole = f'; all of {modules}{more}' if modules else ''
        return f'frozen: {len(self.params)} of {len(named_leaves(params))} arrays{whole}'

    @contextlib.contextmanager
    def evaluation_inside(self):
        """While it is entered, frozen modules are called with train=False."""

        def call(method, args, kwargs, context):
            if 'train' in kwargs and '/'.join(context.module.path) in self.modules:
                kwargs = {**kwargs, 'train': False}
            return method(*args, **kwargs)

        with nn.intercept_methods(call):
            yield

    def without_gradients(self, params: PyTree) -> PyTree:
        """The parameters; nothing is differentiated by frozen ones, which leaves out the work, too."""
        return _where(self.params, params, params, jax.lax.stop_gradient)

    def keep_params(self, updated: PyTree, before: PyTree) -> PyTree:
        """The updated parameters, but the frozen ones as they were."""
        return _where(self.params, updated, before)

    def keep_statistics(self, updated: PyTree, before: PyTree) -> PyTree:
        """The updated running statistics, but those of frozen modules as they were, bit for bit.

        Their mean over the devices may differ from what every device has in the last bit.
        """
        frozen = frozenset(name for name in named_leaves(before) if name.rpartition('/')[0] in self.modules)
        return _where(frozen, updated, before)

    @property
    def _roots(self) -> list[str]:
        """The frozen modules that are in no other one."""
        return [name for name in sorted(self.modules) if name.rpartition('/')[0] not in self.modules]


NOTHING = Frozen()


def _modules_around(name: str) -> list[str]:
    """The paths of the modules that a parameter is in, the innermost last."""
    parts = name.split('/')
    return ['/'.join(parts[:depth]) for depth in range(1, len(parts))]


def _where(names: frozenset[str], others: PyTree, chosen: PyTree, change=lambda leaf: leaf) -> PyTree:
    """The leaves of `others`, but those of `names` from `chosen`, changed."""
    pairs = zip(named_leaves(others).items(), jax.tree.leaves(chosen), strict=True)
    leaves = [change(own) if name in names else other for (name, other), own in pairs]
    return jax.tree.unflatten(jax.tree.structure(others), leaves)
