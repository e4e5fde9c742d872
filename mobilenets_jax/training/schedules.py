"""Learning-rate schedules, as TensorFlow counts them: from step 0, with the warm-up laid over the first steps.

Paper: the decays of 1704.04861, 1801.04381 and 1905.02244, whose code writes them as `tf.train.exponential_decay`.
Reference: tensorflow/models official/modeling/optimization/lr_schedule.py `LinearWarmup`: the warm-up rises linearly to
    the value that the schedule has where the warm-up ends.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mobilenets_jax.errors import check, check_choice

Schedule = Callable[[jax.Array | int], jax.Array]


def constant(learning_rate: float, total_steps: int) -> Schedule:
    """The same rate at every step."""
    del total_steps
    return optax.constant_schedule(learning_rate)


def cosine(learning_rate: float, total_steps: int) -> Schedule:
    """Half a cosine, to 0 at `total_steps`."""
    return optax.cosine_decay_schedule(learning_rate, total_steps)


def exponential(
    learning_rate: float,
    total_steps: int,
    *,
    decay_steps: int | None = None,
    decay_rate: float = 1.0,
    staircase: bool = True,
) -> Schedule:
    """Times `decay_rate` every `decay_steps`, in jumps if `staircase`, else smoothly."""
    del total_steps
    check(bool(decay_steps), 'schedule.decay', decay_steps, "must be set, e.g. decay_epochs, for 'exponential'")
    check(decay_rate > 0, 'schedule.decay_rate', decay_rate, 'must be positive')
    return optax.exponential_decay(learning_rate, decay_steps, decay_rate, staircase=staircase)


def polynomial(learning_rate: float, total_steps: int, *, power: float = 0.9) -> Schedule:
    """Times (1 - step / total_steps) ** power: deeplab's 'poly'."""
    check(power > 0, 'schedule.power', power, 'must be positive')
    return optax.polynomial_schedule(learning_rate, 0.0, power, total_steps)


# The keyword-only arguments of each are the fields of the config that it alone takes.
SCHEDULES = {'constant': constant, 'cosine': cosine, 'exponential': exponential, 'polynomial': polynomial}


def create_schedule(
    name: str,
    *,
    learning_rate: float,
    total_steps: int,
    warmup_steps: int = 0,
    warmup_from: float = 0.0,
    **fields,
) -> Schedule:
    """A function from the step (0 is the first update) to the learning rate.

    Args:
        name: a key of `SCHEDULES`.
        learning_rate: before any decay.
        total_steps: length of the run.
        warmup_steps: the number of steps in which the rate rises linearly to the schedule's value.
        warmup_from: the rate of the first warm-up step.
        **fields: the keyword-only arguments of the schedule.

    Raises:
        UserError: for an unknown name or a value out of its range.
    """
    check_choice('schedule.name', name, SCHEDULES)
    check(learning_rate > 0, 'schedule.learning_rate', learning_rate, 'must be positive')
    check(warmup_from >= 0, 'schedule.warmup_from', warmup_from, 'must not be negative')
    check(0 <= warmup_steps <= total_steps, 'schedule.warmup', warmup_steps, f'steps exceed the run of {total_steps}')
    schedule = SCHEDULES[name](learning_rate, total_steps, **fields)
    if not warmup_steps:
        return schedule
    with jax.ensure_compile_time_eval():  # a constant, also where the optimizer is built while tracing
        peak = float(schedule(warmup_steps))
    warmup = optax.linear_schedule(warmup_from, peak, warmup_steps)
    return lambda step: jnp.where(step < warmup_steps, warmup(step), schedule(step))
