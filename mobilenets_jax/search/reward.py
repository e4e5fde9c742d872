"""What a search maximises: accuracy, traded for latency.

All functions take numbers or arrays, of NumPy or of JAX, and work element by element. Accuracies are in [0, 1].

Paper: Tan et al., MnasNet, 1807.11626, equations 2 and 3; Howard et al., MobileNetV3, 1905.02244, section 4.1 (an
    exponent of -0.15 for the small network); Bender et al., TuNAS, 2008.06120, section 3.
Reference: `reward_for_single_cost_model` of google-research tunas/search_space_utils.py@0c1bbe5.
"""

from collections.abc import Callable

from mobilenets_jax.errors import check, check_choice

# MnasNet's: a network that takes twice the time must be 5 % more accurate, as 1.05 x 2^-0.07 = 1.
MNASNET_EXPONENT = -0.07
ABSOLUTE_EXPONENT = -0.10


def soft(accuracy, milliseconds, target: float, exponent: float = MNASNET_EXPONENT):
    """MnasNet's product with alpha = beta: `accuracy * (milliseconds / target) ** exponent`.

    It knows no target: another one multiplies all rewards by one factor, and the search ends at the same latency. That
    latency follows from the exponent alone: with the published tables of `benchmarks/search_on_tables.py` it was 29 ms
    for -0.07 and 19 ms for -0.15, whether 32 or 40 ms were asked for.
    """
    return accuracy * (milliseconds / target) ** exponent


def hard(accuracy, milliseconds, target: float, exponent: float = -1.0):
    """MnasNet's product with alpha = 0: the accuracy up to the target, above it as `soft`."""
    above = milliseconds > target
    return accuracy * (milliseconds / target) ** (exponent * above)


def absolute(accuracy, milliseconds, target: float, exponent: float = ABSOLUTE_EXPONENT):
    """TuNAS's reward `accuracy + exponent * |milliseconds / target - 1|`, which is largest near the target."""
    return accuracy + exponent * abs(milliseconds / target - 1)


REWARDS: dict[str, Callable] = {'absolute': absolute, 'hard': hard, 'soft': soft}


def get_reward(name: str, target: float, exponent: float | None = None) -> Callable:
    """From accuracies and milliseconds to rewards.

    Args:
        name: one of `REWARDS`.
        target: milliseconds.
        exponent: how much latency counts, negative; None: the paper's.

    Raises:
        UserError: an unknown name, a target that is not positive, or an exponent that is not negative.
    """
    check_choice('search.reward', name, REWARDS)
    check(target > 0, 'search.target_ms', target, 'must be positive')
    check(exponent is None or exponent < 0, 'search.exponent', exponent, 'must be negative')
    given = {} if exponent is None else {'exponent': exponent}

    def reward(accuracy, milliseconds):
        return REWARDS[name](accuracy, milliseconds, target, **given)

    return reward
