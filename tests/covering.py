"""Products of a test's parameters; the fast suite takes a part of them in which every value occurs."""

import itertools
from collections.abc import Sequence

import pytest


def covering(*parameters: Sequence) -> list:
    """All combinations, as `pytest.mark.parametrize` takes them; those that add no new value are marked slow.

    A parameter whose values are tuples stands for as many arguments as they have items.
    """
    count = max(map(len, parameters))
    quick = {tuple(number % len(values) for values in parameters) for number in range(count)}
    combinations = []
    for places in itertools.product(*(range(len(values)) for values in parameters)):
        chosen = [values[place] for values, place in zip(parameters, places, strict=True)]
        arguments = [item for value in chosen for item in (value if isinstance(value, tuple) else (value,))]
        combinations.append(pytest.param(*arguments, marks=[] if places in quick else [pytest.mark.slow]))
    return combinations
