"""The rewards have the values that the papers print, and the properties that they claim."""

import jax.numpy as jnp
import numpy as np
import pytest

from mobilenets_jax.errors import UserError
from mobilenets_jax.search.reward import absolute, get_reward, hard, soft


def test_twice_the_time_is_worth_five_percent_of_accuracy():
    """1807.11626 section 3: Reward(M2) = a (1 + 5%) (2 l / T)^b = Reward(M1) = a (l / T)^b gives b = -0.07."""
    assert soft(0.5 * 1.05, 2 * 60.0, 75.0) == pytest.approx(soft(0.5, 60.0, 75.0), rel=3e-4)
    assert round(np.log(1 / 1.05) / np.log(2), 2) == -0.07


@pytest.mark.parametrize(
    ('milliseconds', 'softly', 'hardly', 'absolutely'),
    [
        # Accuracy 0.5, target 100 ms: 0.5 x (ms / 100)^-0.07; 0.5 x 100 / ms above it; 0.5 - |ms - 100| / 1000.
        (50.0, 0.524859, 0.5, 0.45),
        (100.0, 0.5, 0.5, 0.5),
        (200.0, 0.476319, 0.25, 0.4),
    ],
)
def test_values_below_at_and_above_the_target(milliseconds, softly, hardly, absolutely):
    functions, wanted = (soft, hard, absolute), (softly, hardly, absolutely)
    assert [function(0.5, milliseconds, 100.0) for function in functions] == pytest.approx(wanted, abs=1e-6)
    for arrays in (np, jnp):
        accuracy, latency = arrays.array([0.5, 0.7]), arrays.array([milliseconds, 100.0])
        found = [np.asarray(function(accuracy, latency, 100.0)) for function in functions]
        np.testing.assert_allclose(found, np.stack([wanted, (0.7, 0.7, 0.7)], axis=1), atol=1e-6)


def test_hard_reward_has_tunas_form():
    """Its code writes accuracy x min((T / T0)^b, 1)."""
    latency = np.linspace(10, 200, 50)
    np.testing.assert_allclose(hard(0.6, latency, 80.0, -0.5), 0.6 * np.minimum((latency / 80) ** -0.5, 1))


def test_soft_reward_knows_no_target():
    """Another target multiplies all of its rewards by one factor; the other two prefer other networks then."""
    latency = np.linspace(20, 60, 41)
    accuracy = 0.6 + 0.05 * np.log(latency)
    best = {
        function: [latency[function(accuracy, latency, target).argmax()] for target in (30.0, 45.0)]
        for function in (soft, hard, absolute)
    }
    assert best[soft][0] == best[soft][1]
    assert best[hard] == best[absolute] == [30.0, 45.0]


def test_chosen_by_name():
    assert get_reward('soft', 75.0)(0.7, 150.0) == soft(0.7, 150.0, 75.0)
    assert get_reward('absolute', 75.0, -0.2)(0.7, 150.0) == pytest.approx(0.5)
    for arguments, line in (
        (('product', 75.0), "search.reward='product' is unknown. Known: absolute, hard, soft."),
        (('soft', 0.0), 'search.target_ms=0.0 must be positive.'),
        (('hard', 75.0, 0.1), 'search.exponent=0.1 must be negative.'),
    ):
        with pytest.raises(UserError) as caught:
            get_reward(*arguments)
        assert str(caught.value) == line
