"""ProxylessNAS-Mobile as a point of its own space.

Source: tunas/mobile_model_archive.py@0c1bbe5.
"""

from typing import Any

from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.search.spaces import get_space

NAME = 'proxylessnas_mobile'

# Layer by layer: kernels 3, 5, 7 at expansion 3, then at expansion 6; 6 is a layer that is left out.
OPERATIONS = (0, 1, 0, 6, 6, 2, 0, 1, 1, 5, 1, 1, 1, 4, 1, 1, 1, 5, 5, 2, 2, 5)
LEFT_OUT = 6
KERNELS, EXPANSIONS = (3, 5, 7), (3, 6)


def options() -> dict[str, Any]:
    """What is chosen in the space 'proxylessnas', by the names of its choices."""
    chosen: dict[str, Any] = {}
    for number, operation in enumerate(OPERATIONS, start=1):
        name = f'layer{number:02d}'
        if number == 1:
            chosen[f'{name}/kernel'] = KERNELS[operation]
            continue
        if number < len(OPERATIONS) and (number - 2) % 4:  # neither the last layer nor the first of a stage of four
            chosen[f'{name}/skip'] = operation == LEFT_OUT
        if operation != LEFT_OUT:
            chosen |= {f'{name}/kernel': KERNELS[operation % 3], f'{name}/expand': EXPANSIONS[operation // 3]}
    return chosen


def spec() -> NetworkSpec:
    """The network's table."""
    space = get_space('proxylessnas')
    return space.spec(space.decisions(options()))
