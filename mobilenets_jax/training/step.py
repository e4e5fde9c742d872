"""The training and evaluation step of one device, with every reduction over the devices in sight.

The gradient is `pmean(grad(local loss))`: each device differentiates the mean over its own examples, and the mean over
devices is the mean over the global batch. Differentiating an averaged loss instead would be wrong under `pmap`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from mobilenets_jax.errors import check
from mobilenets_jax.training.ema import EmaOptions
from mobilenets_jax.training.frozen import NOTHING, Frozen
from mobilenets_jax.training.optimizers import WeightDecayOptions
from mobilenets_jax.training.parallel import AXIS_NAME
from mobilenets_jax.training.state import TrainState
from mobilenets_jax.training.task import Task

PyTree = Any


def make_train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    *,
    ema: EmaOptions,
    weight_decay: WeightDecayOptions,
    seed: int,
    accumulation_steps: int = 1,
    frozen: Frozen = NOTHING,
    over_devices: bool = True,
) -> Callable[[TrainState, PyTree], tuple[TrainState, PyTree]]:
    """One update, to be mapped over the devices by `parallel.parallel_train_step`.

    Args:
        task: its `loss` is minimised.
        optimizer: see `optimizers.create_optimizer`.
        ema: how parameters are averaged.
        weight_decay: adds its L2 term to the loss, unless it is decoupled.
        seed: of dropout; the key of a step is a function of (seed, step, device).
        accumulation_steps: the number of parts into which each device's batch is split, computed one after the other.
        frozen: what keeps its value, bit for bit. The L2 term counts it, but does not move it.
        over_devices: whether all devices train one state. If not, each trains one of its own, as it would alone, and
            nothing is reduced; see `parallel.parallel_candidates`.

    Returns:
        A function of (state, batch) that returns the new state; and the task's sums over the global batch, with the
        mean 'l2' and 'grad_norm' of the step.
    """
    check(accumulation_steps >= 1, 'accumulation_steps', accumulation_steps, 'must be positive')

    def loss(params, batch_stats, batch, key):
        params = frozen.without_gradients(params)
        value, extras = task.loss(params, batch_stats, batch, key)
        l2 = weight_decay.l2_loss(params)
        return value + l2, (*extras, l2)

    def gradients(state: TrainState, batch: PyTree, key: jax.Array):
        """Gradients (mean), statistics (after the last part) and metrics (sums) over the parts of a device's batch."""

        def part(batch_stats, inputs):
            index, micro_batch = inputs
            grads, (batch_stats, metrics, l2) = jax.grad(loss, has_aux=True)(
                state.params, batch_stats, micro_batch, jax.random.fold_in(key, index)
            )
            return batch_stats, (grads, metrics, l2)

        if accumulation_steps == 1:
            batch_stats, (grads, metrics, l2) = part(state.batch_stats, (0, batch))
            return grads, batch_stats, metrics, l2
        parts = jax.tree.map(lambda x: x.reshape(accumulation_steps, -1, *x.shape[1:]), batch)
        batch_stats, (grads, metrics, l2) = lax.scan(part, state.batch_stats, (jnp.arange(accumulation_steps), parts))
        grads = jax.tree.map(lambda x: x.mean(axis=0), grads)
        metrics = jax.tree.map(lambda x: x.sum(axis=0), metrics)
        return grads, batch_stats, metrics, l2.mean()

    def train_step(state: TrainState, batch: PyTree) -> tuple[TrainState, PyTree]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        key = jax.random.fold_in(key, lax.axis_index(AXIS_NAME) if over_devices else 0)
        grads, batch_stats, metrics, l2 = gradients(state, batch, key)

        if over_devices:
            # Statistics are averaged even if each device normalises by its own: all copies of the state stay equal.
            grads, batch_stats, l2 = lax.pmean((grads, batch_stats, l2), AXIS_NAME)
            metrics = lax.psum(metrics, AXIS_NAME)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = frozen.keep_params(optax.apply_updates(state.params, updates), state.params)
        batch_stats = frozen.keep_statistics(batch_stats, state.batch_stats)
        step = state.step + 1
        ema_params, ema_batch_stats = state.ema_params, state.ema_batch_stats
        if ema_params is not None:
            ema_params = ema.update(ema_params, params, step)
        if ema_batch_stats is not None:
            ema_batch_stats = ema.update(ema_batch_stats, batch_stats, step)
        state = TrainState(step, params, batch_stats, opt_state, ema_params, ema_batch_stats)
        return state, metrics | {'l2': l2, 'grad_norm': optax.global_norm(grads)}

    return train_step


def make_eval_step(task: Task) -> Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]:
    """The results of the task for a batch on all devices, for `parallel.parallel_eval_step`.

    The step returns the task's sums over the global batch, and the rows of all of its examples, [devices, n, ...] on
    every device: the task's own, and the batch's 'index' and 'mask'.
    """

    def eval_step(params: PyTree, batch_stats: PyTree, batch: PyTree) -> tuple[PyTree, PyTree]:
        sums, rows = task.evaluate(params, batch_stats, batch)
        rows = {**rows, 'index': batch['index'], 'mask': batch['mask']}
        return lax.psum(sums, AXIS_NAME), lax.all_gather(rows, AXIS_NAME)

    return eval_step
