"""Search with shared weights: in every step each device trains one network of a space, in one set of weights for all.

A step draws a network for each device, trains the weights that it has of the super-network on the device's batch, and
rewards it for its accuracy on the images of the same batch that are held out, less what its latency costs. The networks
are drawn by the host, so that any model of latency will do; all else, the controller's step included, is one compiled
program for all networks.

Paper: Bender et al., TuNAS, 2008.06120: a network of its own for each device, batch statistics of that network,
    REINFORCE over independent softmaxes, a controller that does not learn in the first quarter, in which the options
    drawn give way to the largest ones with a probability that falls to 0.
Reference: google-research tunas/mobile_architecture_search.py and controller.py@0c1bbe5.
Differs: TuNAS measures accuracy on another batch, after the weights' update; here the images held out are rows of the
    batch that is trained on, whose one forward pass gives gradient and reward. Its controller's learning rate grows
    tenfold over the search; this one's is constant. Where it enables all operations of a layer at once, here
    the largest kernel is taken, which has the others inside.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mobilenets_jax.search.controllers import PolicyState, Reinforce, log_probabilities
from mobilenets_jax.search.held_out import HeldOut
from mobilenets_jax.search.masks import masked
from mobilenets_jax.search.super_network import SuperNetwork
from mobilenets_jax.training.classification import ClassificationTask, label_rank, smoothed_cross_entropy
from mobilenets_jax.training.forward import forward_in_training
from mobilenets_jax.training.frozen import NOTHING
from mobilenets_jax.training.parallel import AXIS_NAME
from mobilenets_jax.training.state import TrainState
from mobilenets_jax.training.task import Metric, Task

PyTree = Any

# What a batch holds beside the examples, for each device: of its network.
DECISIONS, SIZES, MILLISECONDS = 'decisions', 'sizes', 'milliseconds'


@flax.struct.dataclass
class SearchState:
    """Everything that a checkpoint holds of a search; the same on every device.

    Attributes:
        train: of the super-network.
        policy: of the controller.
    """

    train: TrainState
    policy: PolicyState

    @property
    def step(self) -> jax.Array:
        """The number of updates of the weights, int32 []."""
        return self.train.step


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedWeightsTask(Task):
    """Classification by the sub-network that a device's batch names, and the metrics of a search.

    Attributes:
        task: of the super-network.
        held_out: the examples that are not trained on.
    """

    logged: ClassVar = (
        Metric(name='loss', label='loss', decimals=4, higher_is_better=False),
        Metric(name='accuracy', label='accuracy', unit='%'),
        Metric(name='held_out', label='held out', unit='%'),
        Metric(name='milliseconds', label='latency', unit='ms', higher_is_better=False),
        Metric(name='reward', label='reward', decimals=4),
    )
    metrics: ClassVar = (
        Metric(name='reward', label='reward', decimals=4, in_training='reward'),
        Metric(name='milliseconds', label='latency', unit='ms', higher_is_better=False, in_training='milliseconds'),
        Metric(name='certainty', label='certainty', unit='%'),
    )
    headline: ClassVar = 'reward'

    task: ClassificationTask
    held_out: HeldOut

    def loss(self, params: PyTree, batch_stats: PyTree, batch: PyTree, key: jax.Array) -> tuple[jax.Array, Any]:
        """The mean loss of a device's examples, but for those held out.

        It divides by the mean of their number over the devices, so that the gradient is that of the global batch.
        Images that are held out are not augmented on the device.

        Args:
            params: of the super-network.
            batch_stats: as well.
            batch: of the task, with 'index', and the `SIZES` of the device's network.
            key: of the task.

        Returns:
            As of the task; its sums have for each device, [devices], the hits and the number of the held-out examples.
        """
        task, held_out = self.task, self.held_out.rows(batch['index'])
        images = jnp.where(
            held_out[:, None, None, None], task.preprocess(batch, train=False), task.preprocess(batch, train=True)
        )
        labels, own = batch['label'], masked(params, batch[SIZES])
        logits, updated = forward_in_training(task.model, own, batch_stats, images, key, NOTHING)
        losses = jnp.where(held_out, 0.0, smoothed_cross_entropy(logits, labels, task.label_smoothing))
        correct = label_rank(logits, labels) < 1
        count = (~held_out).sum()
        sums = {
            'loss': losses.sum(),
            'correct': (correct & ~held_out).sum(),
            'count': count,
            'held_out_correct': _of_device((correct & held_out).sum()),
            'held_out_count': _of_device(held_out.sum()),
        }
        mean_count = lax.pmean(count.astype(losses.dtype), AXIS_NAME)
        return losses.sum() / jnp.maximum(mean_count, 1.0), (updated, sums)

    def evaluate(self, params: PyTree, batch_stats: PyTree, batch: PyTree):
        """A super-network is not evaluated: its running statistics are of no network."""
        raise NotImplementedError

    def measure(self, outputs: Any, batch: PyTree):
        """See `evaluate`."""
        raise NotImplementedError

    def training_metrics(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Of the steps since the last log line, over all devices' networks."""
        return {
            'loss': sums['loss'] / sums['count'],
            'accuracy': 100 * sums['correct'] / sums['count'],
            'held_out': 100 * sums['held_out_correct'] / max(sums['held_out_count'], 1),
            'milliseconds': sums['milliseconds'] / sums['networks'],
            'reward': sums['reward'] / sums['networks'],
        }


def _of_device(value: jax.Array) -> jax.Array:
    """A device's value in its own place and 0 in all others, [devices]: the sum over the devices has all of them."""
    return jnp.zeros(lax.psum(1, AXIS_NAME), value.dtype).at[lax.axis_index(AXIS_NAME)].set(value)


def make_search_step(
    train_step: Callable[[TrainState, PyTree], tuple[TrainState, PyTree]],
    controller: Reinforce,
    reward: Callable[[jax.Array, jax.Array], jax.Array],
    warmup_steps: int,
) -> Callable[[SearchState, PyTree], tuple[SearchState, PyTree]]:
    """One update of weights and controller, to be mapped over the devices by `parallel.parallel_train_step`.

    Args:
        train_step: `step.make_train_step` of a `SharedWeightsTask`.
        controller: learns from the networks of all devices.
        reward: see `reward.get_reward`; accuracies are in [0, 1].
        warmup_steps: so many steps only train the weights.

    Returns:
        A function of (state, batch), whose batch has the `DECISIONS`, `SIZES` and `MILLISECONDS` of the device.
    """

    def search_step(state: SearchState, batch: PyTree) -> tuple[SearchState, PyTree]:
        train, metrics = train_step(state.train, batch)
        correct, count = metrics.pop('held_out_correct'), metrics.pop('held_out_count')  # (devices,)
        decisions, milliseconds = lax.all_gather((batch[DECISIONS], batch[MILLISECONDS]), AXIS_NAME)
        rewards = reward(correct / jnp.maximum(count, 1), milliseconds)
        # A device whose batch had nothing that is held out has measured nothing.
        rewards = jnp.where(count > 0, rewards, state.policy.baseline)
        updated = controller.updated(state.policy, decisions, rewards)
        learns = state.train.step >= warmup_steps
        policy = jax.tree.map(lambda new, old: jnp.where(learns, new, old), updated, state.policy)
        metrics |= {
            'held_out_correct': correct.sum(),
            'held_out_count': count.sum(),
            'milliseconds': milliseconds.sum(),
            'reward': rewards.sum(),
            'networks': jnp.asarray(count.size),
        }
        return SearchState(train, policy), metrics

    return search_step


@dataclasses.dataclass(frozen=True)
class Networks:
    """The networks of a search's steps.

    Attributes:
        super_network: what they are parts of.
        controller: proposes them.
        milliseconds: of the network of decisions, int [C].
        warmup_steps: in these the option of a choice is the largest one with a probability that falls from 1 to 0.
        seed: of the draws; those of a step depend on it, the step and the controller's state alone.
    """

    super_network: SuperNetwork
    controller: Reinforce
    milliseconds: Callable[[np.ndarray], float]
    warmup_steps: int
    seed: int

    @property
    def range(self) -> tuple[float, float]:
        """Milliseconds of the smallest and of the largest network."""
        ends = (self.super_network.smallest, self.super_network.largest)
        least, most = (self.milliseconds(decisions) for decisions in ends)
        return least, most

    def decisions(self, policy: PolicyState, step: int, count: int) -> np.ndarray:
        """A network for each of `count` devices, int [count, C].

        Args:
            policy: of the controller, on the host.
            step: how many steps were made before.
            count: devices of all processes.
        """
        rng = np.random.default_rng((self.seed, step))
        decisions = self.controller.propose(policy, rng, count)
        probability = 1 - step / self.warmup_steps if step < self.warmup_steps else 0.0
        enlarged = rng.random(decisions.shape) < probability
        return np.where(enlarged, self.super_network.largest, decisions).astype(np.int32)

    def fields(self, decisions: np.ndarray) -> dict[str, PyTree]:
        """What a batch holds of the networks of the local devices, [local_devices, ...].

        Args:
            decisions: theirs, int [local_devices, C].
        """
        sizes = [self.super_network.sizes(row) for row in decisions]
        milliseconds = [self.milliseconds(row) for row in decisions]
        return {
            DECISIONS: decisions,
            SIZES: jax.tree.map(lambda *leaves: np.stack(leaves), *sizes),
            MILLISECONDS: np.array(milliseconds, np.float32),
        }

    def measured(self, policy: PolicyState) -> dict[str, float]:
        """The metrics of a search: moving average of the rewards, latency of the likeliest network, its certainty.

        The certainty is the mean probability of its options, in percent; 100: all networks that are drawn are this one.
        """
        best = self.controller.best(policy)
        log_p = np.asarray(log_probabilities(policy.logits, self.super_network.space.num_options))
        return {
            'reward': float(policy.baseline),
            'milliseconds': float(self.milliseconds(best)),
            'certainty': float(100 * np.exp(log_p[np.arange(len(best)), best]).mean()),
        }
