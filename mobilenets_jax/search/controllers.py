"""Controllers, which propose the next networks to try, with one interface.

A controller is pure: `propose` and `observe` depend on the state, a random generator and what they are given alone. The
state is a tuple of arrays of fixed shapes, which a checkpoint can hold; with a generator made of (seed, step), a search
that goes on from it proposes what it would have proposed.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mobilenets_jax.errors import UserError, check
from mobilenets_jax.search.space import Space

Latency = Callable[[np.ndarray], np.ndarray]  # from decisions, int [N, C], to milliseconds, float [N]

# So many random networks are drawn at a time for a band of latencies, and so often before none is there.
DRAWN = 4096
MOST_DRAWS = 200
MUTANTS = 16  # of a parent that are drawn at a time; the first one within the latency is the child


class Controller(Protocol):
    """Proposes networks of a space."""

    def init(self) -> Any:
        """The state before the first proposal."""

    def propose(self, state: Any, rng: np.random.Generator, count: int) -> np.ndarray:
        """The decisions to try next, int [count, C]."""

    def observe(self, state: Any, decisions: np.ndarray, rewards: np.ndarray) -> Any:
        """The state after some proposals, int [N, C], have earned their rewards, float [N]."""


class PolicyState(NamedTuple):
    """What REINFORCE has learnt.

    Attributes:
        logits: of each option, float [C, most options].
        optimizer: the state of Adam.
        baseline: the moving average of the rewards, float [].
        steps: how many batches of rewards it has seen, int [].
    """

    logits: jax.Array
    optimizer: Any
    baseline: jax.Array
    steps: jax.Array


def log_probabilities(logits: jax.Array, num_options: np.ndarray) -> jax.Array:
    """Of each option; -inf where a choice has fewer. Independent softmaxes, float [C, most options]."""
    exists = np.arange(logits.shape[-1]) < np.asarray(num_options)[:, None]
    return jax.nn.log_softmax(jnp.where(exists, logits, -jnp.inf), axis=-1)


def sample(logits: jax.Array, num_options: np.ndarray, uniform: jax.Array) -> jax.Array:
    """Draws decisions, int [..., C], from uniform numbers in [0, 1) of that shape."""
    cumulative = jnp.cumsum(jnp.exp(log_probabilities(logits, num_options)), axis=-1)
    drawn = (cumulative <= uniform[..., None]).sum(axis=-1)
    return jnp.minimum(drawn, np.asarray(num_options) - 1)  # the sum of a softmax may round to less than 1


def policy_gradient(
    logits: jax.Array, num_options: np.ndarray, decisions: jax.Array, in_force: jax.Array, advantages: jax.Array
) -> jax.Array:
    """REINFORCE's estimate, from the choices in force, of the gradient of the expected reward, float [C, most options].

    Args:
        logits: float [C, most options].
        num_options: of each choice, int [C].
        decisions: sampled from the logits, int [N, C].
        in_force: see `Space.in_force`, bool [N, C].
        advantages: rewards less a baseline that does not depend on these decisions, float [N].
    """

    def mean_log_likelihood(logits):
        log_p = log_probabilities(logits, num_options)
        chosen = jnp.take_along_axis(log_p[None], decisions[..., None], axis=-1)[..., 0]  # (N, C)
        return (jnp.where(in_force, chosen, 0.0).sum(axis=-1) * advantages).mean()

    return jax.grad(mean_log_likelihood)(logits)


@dataclasses.dataclass(frozen=True)
class Reinforce:
    """REINFORCE over an independent softmax for each choice, with a moving baseline.

    Paper: Bender et al., TuNAS, 2008.06120, section 3 and appendix; MnasNet's own controller is a recurrent network
    trained by PPO, which TuNAS's takes the place of.

    Attributes:
        space: what is searched.
        learning_rate: of Adam without momentum, as TuNAS has it.
        baseline_decay: of the moving average of the rewards.
    """

    space: Space
    learning_rate: float = 0.08
    baseline_decay: float = 0.95

    def __post_init__(self):
        check(self.learning_rate > 0, 'search.learning_rate', self.learning_rate, 'must be positive')
        check(0 <= self.baseline_decay < 1, 'search.baseline_decay', self.baseline_decay, 'must be in [0, 1)')

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate, b1=0.0)

    @functools.cached_property
    def _compiled(self) -> tuple[Callable, Callable]:
        """`sample` and `updated` as one program each."""
        return jax.jit(functools.partial(sample, num_options=self.space.num_options)), jax.jit(self.updated)

    def init(self) -> PolicyState:
        """Uniform over the options of every choice."""
        logits = jnp.zeros((len(self.space.choices), self.space.num_options.max()))
        return PolicyState(logits, self._optimizer.init(logits), jnp.zeros(()), jnp.zeros((), int))

    def propose(self, state: PolicyState, rng: np.random.Generator, count: int) -> np.ndarray:
        """See `Controller`."""
        uniform = rng.random((count, len(self.space.choices)), np.float32)
        return np.asarray(self._compiled[0](state.logits, uniform=uniform))

    def observe(self, state: PolicyState, decisions: np.ndarray, rewards: np.ndarray) -> PolicyState:
        """See `Controller`."""
        return self._compiled[1](state, jnp.asarray(decisions), jnp.asarray(rewards, state.logits.dtype))

    def updated(self, state: PolicyState, decisions: jax.Array, rewards: jax.Array) -> PolicyState:
        """`observe` for arrays of JAX, to be traced. The first batch of rewards is its own baseline."""
        mean = rewards.mean()
        baseline = jnp.where(state.steps == 0, mean, state.baseline)
        in_force = self.space.in_force(decisions)
        gradient = policy_gradient(state.logits, self.space.num_options, decisions, in_force, rewards - baseline)
        updates, optimizer = self._optimizer.update(-gradient, state.optimizer)
        decay = self.baseline_decay
        return PolicyState(
            optax.apply_updates(state.logits, updates),
            optimizer,
            decay * baseline + (1 - decay) * mean,
            state.steps + 1,
        )

    def best(self, state: PolicyState) -> np.ndarray:
        """The likeliest decisions, int [C], which are the network that a search ends with."""
        return np.asarray(log_probabilities(state.logits, self.space.num_options).argmax(axis=-1))


def random_in_band(
    space: Space, latency: Latency, least: float, most: float, rng: np.random.Generator, count: int
) -> np.ndarray:
    """Uniformly random decisions whose latency is in [least, most] milliseconds, int [count, C].

    Raises:
        UserError: random networks hardly ever are; names the latencies that they have.
    """
    found, lowest, highest = [], np.inf, -np.inf
    for _ in range(MOST_DRAWS):
        drawn = space.sample(rng, DRAWN)
        milliseconds = latency(drawn)
        lowest, highest = min(lowest, milliseconds.min()), max(highest, milliseconds.max())
        found.extend(drawn[(milliseconds >= least) & (milliseconds <= most)])
        if len(found) >= count:
            return np.array(found[:count])
    raise UserError(
        f'search.target_ms={most:g}: of {MOST_DRAWS * DRAWN} random networks of {space.name} {len(found)} take '
        f'{least:g} to {most:g} ms, where {count} are needed; they take {lowest:.1f} to {highest:.1f} ms.'
    )


@dataclasses.dataclass(frozen=True)
class RandomInBand:
    """Random search within a band of latencies below the target: the baseline that a search must beat.

    Paper: 2008.06120 section 4 (random search with rejection sampling).

    Attributes:
        space: what is searched.
        latency: milliseconds of decisions.
        target: the most milliseconds.
        band: the least, as a part of the target.
    """

    space: Space
    latency: Latency
    target: float
    band: float = 0.9

    def init(self) -> tuple:
        """It remembers nothing."""
        return ()

    def propose(self, state: tuple, rng: np.random.Generator, count: int) -> np.ndarray:
        """See `Controller`."""
        return random_in_band(self.space, self.latency, self.band * self.target, self.target, rng, count)

    def observe(self, state: tuple, decisions: np.ndarray, rewards: np.ndarray) -> tuple:
        """See `Controller`."""
        return state


class PopulationState(NamedTuple):
    """The networks that are alive.

    Attributes:
        decisions: int [population, C].
        rewards: float [population].
        seen: how many networks have been observed, int []; the next one takes the place of the oldest.
    """

    decisions: np.ndarray
    rewards: np.ndarray
    seen: np.ndarray


@dataclasses.dataclass(frozen=True)
class AgingEvolution:
    """Evolution in which the oldest network dies: the best of a random few is mutated, within the latency.

    Paper: Real et al., Regularized Evolution for Image Classifier Architecture Search, 1802.01548, Algorithm 1.
    Differs: every decision mutates with one probability, where the paper mutates a single one; as latency is held by
        rejection, the reward is meant to be the accuracy alone.

    Attributes:
        space: what is searched.
        latency: milliseconds of decisions.
        target: the most milliseconds.
        band: the least milliseconds of the first, random population, as a part of the target.
        population: how many networks are alive.
        tournament: how many of them a parent is the best of.
        mutation_rate: the probability that a decision is drawn anew.
    """

    space: Space
    latency: Latency
    target: float
    band: float = 0.9
    population: int = 64
    tournament: int = 16
    mutation_rate: float = 0.1

    def __post_init__(self):
        fits = 0 < self.tournament <= self.population
        check(fits, 'search.tournament', self.tournament, f'must be in 1 .. {self.population}, the population')
        check(0 < self.mutation_rate <= 1, 'search.mutation_rate', self.mutation_rate, 'must be in (0, 1]')

    def init(self) -> PopulationState:
        """Nobody is alive."""
        return PopulationState(
            np.zeros((self.population, len(self.space.choices)), int), np.zeros(self.population), np.zeros((), int)
        )

    def propose(self, state: PopulationState, rng: np.random.Generator, count: int) -> np.ndarray:
        """See `Controller`: random networks in the band until the population is full, then children."""
        if state.seen < self.population:
            return random_in_band(self.space, self.latency, self.band * self.target, self.target, rng, count)
        return np.array([self._child(state, rng) for _ in range(count)])

    def _child(self, state: PopulationState, rng: np.random.Generator) -> np.ndarray:
        """A mutation, within the latency, of the best of a random few."""
        few = rng.choice(self.population, self.tournament, replace=False)
        parent = state.decisions[few[state.rewards[few].argmax()]]
        for _ in range(DRAWN // MUTANTS):
            drawn = rng.random((MUTANTS, len(parent))) < self.mutation_rate
            children = np.where(drawn, self.space.sample(rng, MUTANTS), parent)
            fits = (children != parent).any(axis=1) & (self.latency(children) <= self.target)
            if fits.any():
                return children[fits.argmax()]
        raise UserError(
            f'search.target_ms={self.target:g}: of {DRAWN} mutations of a network of {self.space.name} none is as fast.'
        )

    def observe(self, state: PopulationState, decisions: np.ndarray, rewards: np.ndarray) -> PopulationState:
        """See `Controller`."""
        alive, earned, seen = state.decisions.copy(), state.rewards.copy(), int(state.seen)
        for decided, reward in zip(decisions, rewards, strict=True):
            alive[seen % self.population], earned[seen % self.population] = decided, reward
            seen += 1
        return PopulationState(alive, earned, np.array(seen))
