"""A search space as data: named choices, and the network that a decision for each of them gives.

A decision is the number of an option, so that a network is a vector of small integers, which controllers sample, mutate
and learn about without knowing what they mean. Some choices depend on another one: the kernel of a layer means nothing
where the layer is left out. Such a choice is then not in force, and no controller learns from it.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from mobilenets_jax.errors import UserError, check, check_choice
from mobilenets_jax.models.specs import NetworkSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """One thing to decide.

    Attributes:
        name: unique in its space, e.g. 'layer03/kernel'.
        options: what can be chosen, in the order of the decisions.
        needs: (name, options) of an earlier choice that needs nothing itself: this one is in force where that one is
            decided for one of these options; None: it always is.
    """

    name: str
    options: tuple
    needs: tuple[str, tuple] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """A set of networks.

    Attributes:
        name: of the space.
        choices: all that is decided.
        build: from the chosen option of each choice, by name, to the network.
        kept: from the same to whether each row of the network that leaves none out is there; None: the networks are no
            parts of one that has all of their rows.
    """

    name: str
    choices: tuple[Choice, ...]
    build: Callable[[Mapping[str, Any]], NetworkSpec]
    kept: Callable[[Mapping[str, Any]], Sequence[bool]] | None = None

    def __post_init__(self):
        names = [choice.name for choice in self.choices]
        check(len(set(names)) == len(names), f'space {self.name}', names, 'must name each choice once')
        for number, choice in enumerate(self.choices):
            if choice.needs is not None:
                needed = names.index(choice.needs[0])
                free = needed < number and self.choices[needed].needs is None
                check(free, f'{choice.name} of {self.name}', choice.needs, 'must be an earlier, free choice')

    @property
    def size(self) -> int:
        """The number of decision vectors, as papers count: the product of the numbers of options."""
        return math.prod(len(choice.options) for choice in self.choices)

    @property
    def num_networks(self) -> int:
        """The number of decision vectors that differ in a choice in force."""
        total = 1
        for choice in self.choices:
            if choice.needs is None:
                dependent = [other for other in self.choices if other.needs and other.needs[0] == choice.name]
                total *= sum(
                    math.prod(len(other.options) for other in dependent if option in other.needs[1])
                    for option in choice.options
                )
        return total

    @functools.cached_property
    def num_options(self) -> np.ndarray:
        """How many options each choice has, int [C]."""
        return np.array([len(choice.options) for choice in self.choices])

    @functools.cached_property
    def needed(self) -> np.ndarray:
        """The number of the choice that each one needs, int [C]; its own where it needs none."""
        numbers = {choice.name: number for number, choice in enumerate(self.choices)}
        return np.array([numbers[choice.needs[0] if choice.needs else choice.name] for choice in self.choices])

    @functools.cached_property
    def permitting(self) -> np.ndarray:
        """Whether a choice is in force with an option of the one that it needs, bool [C, most options]."""
        permitting = np.ones((len(self.choices), self.num_options.max()), bool)
        for number, choice in enumerate(self.choices):
            if choice.needs is not None:
                options = self.choices[self.needed[number]].options
                permitting[number, : len(options)] = [option in choice.needs[1] for option in options]
        return permitting

    def in_force(self, decisions):
        """Which choices mean something, bool [..., C].

        Args:
            decisions: int [..., C], a NumPy array or one of JAX; the result is of the same kind.
        """
        chosen = decisions[..., self.needed]
        permitting = self.permitting if isinstance(chosen, np.ndarray) else jnp.asarray(self.permitting)
        return permitting[np.arange(len(self.choices)), chosen]

    def decisions(self, options: Mapping[str, Any]) -> np.ndarray:
        """The decisions for options by the names of their choices, int [C].

        Raises:
            UserError: an unknown choice or option, or one that is missing though it is in force.
        """
        names = [choice.name for choice in self.choices]
        for name in options:
            check_choice(f'choice of {self.name}', name, names)
        decided = np.zeros(len(names), int)
        for number, choice in enumerate(self.choices):
            if choice.name in options:
                check_choice(choice.name, options[choice.name], choice.options)
                decided[number] = choice.options.index(options[choice.name])
        for choice, in_force in zip(self.choices, self.in_force(decided), strict=True):
            if in_force and choice.name not in options:
                raise UserError(f'{choice.name} of {self.name} is missing.')
        return decided

    def options(self, decisions: Sequence[int]) -> dict[str, Any]:
        """The chosen option of each choice, by name, whether or not it is in force."""
        self._check(decisions)
        return {choice.name: choice.options[int(d)] for choice, d in zip(self.choices, decisions, strict=True)}

    def spec(self, decisions: Sequence[int]) -> NetworkSpec:
        """The network of a vector of decisions, int [C]."""
        return self.build(self.options(decisions))

    def restricted(self, rules: Sequence[tuple[str, Sequence]]) -> 'Space':
        """The space with fewer options.

        Args:
            rules: (regular expression, options): a choice in whose name the expression is found has these options
                alone; the first expression that is found counts.

        Raises:
            UserError: a rule is no such pair, is found in no choice, or names an option that a choice does not have.
        """
        names = [choice.name for choice in self.choices]
        for rule in rules:
            is_pair = isinstance(rule, list | tuple) and len(rule) == 2 and isinstance(rule[0], str)
            is_pair = is_pair and isinstance(rule[1], list | tuple) and len(rule[1]) > 0
            check(is_pair, 'search.options', rule, "is no pair of a pattern and options, as in (('/kernel$', (3, 5)),)")
            try:
                found = any(re.search(rule[0], name) for name in names)
            except re.error as error:
                raise UserError(f'search.options={rule[0]!r} is no regular expression: {error}.') from error
            check(found, 'search.options', rule[0], f'is found in no choice of {self.name}; one is {names[0]}')
        return dataclasses.replace(self, choices=tuple(_restricted(choice, rules) for choice in self.choices))

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Uniformly random decisions, int [count, C]."""
        return rng.integers(0, self.num_options, (count, len(self.choices)))

    def _check(self, decisions: Sequence[int]) -> None:
        decided, count = np.asarray(decisions), len(self.choices)
        fits = decided.shape == self.num_options.shape and np.all((decided >= 0) & (decided < self.num_options))
        check(bool(fits), f'decisions of {self.name}', list(decided.flat), f'must be {count} option numbers')


def _restricted(choice: Choice, rules: Sequence[tuple[str, Sequence]]) -> Choice:
    """The choice with the options of the first rule that is found in its name, in their old order."""
    for pattern, options in rules:
        if re.search(pattern, choice.name):
            for option in options:
                check_choice(f'search.options: {choice.name}', option, choice.options)
            return dataclasses.replace(choice, options=tuple(old for old in choice.options if old in options))
    return choice
