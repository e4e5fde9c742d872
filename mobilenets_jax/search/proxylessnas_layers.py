"""The layers of ProxylessNAS's space by their number, which two models of latency know them by."""

import itertools
from collections.abc import Iterator

import numpy as np

from mobilenets_jax.errors import UserError
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.search.operations import positions
from mobilenets_jax.search.space import Space


def layer_names(space: Space) -> list[str]:
    """The names of all layers, in their order."""
    return [choice.name.partition('/')[0] for choice in space.choices if choice.name.endswith('/kernel')]


def layer_options(space: Space, decisions: np.ndarray) -> Iterator[tuple[int | None, int | None]]:
    """Kernel and expansion of each layer; (None, None) where it is left out, no expansion of the first one."""
    options = space.options(decisions)
    for name in layer_names(space):
        skipped = options.get(f'{name}/skip', False)
        yield (None, None) if skipped else (options[f'{name}/kernel'], options.get(f'{name}/expand'))


def proxylessnas_decisions(space: Space, spec: NetworkSpec) -> np.ndarray:
    """The decisions that give a network's rows; of a shorter stage the last layers are taken to be left out.

    Args:
        space: one of `spaces.proxylessnas`.
        spec: a network; stem, head and activations are not looked at.

    Raises:
        UserError: it is no network of the space.
    """
    skippable = {choice.name.partition('/')[0] for choice in space.choices if choice.name.endswith('/skip')}
    stages: list[list[str]] = []
    for name in layer_names(space):
        if name in skippable:
            stages[-1].append(name)
        else:
            stages.append([name])
    first, *others = spec.blocks
    runs = [list(rows) for _, rows in itertools.groupby(others, lambda row: row.out_channels)]
    options, width = {f'{stages[0][0]}/kernel': first.kernel_size}, first.out_channels
    try:
        for names, rows in zip(stages[1:], runs, strict=True):
            for name, row in itertools.zip_longest(names, rows):
                options |= {f'{name}/skip': row is None} if name in skippable else {}
                if row is not None:
                    options |= {f'{name}/kernel': row.kernel_size, f'{name}/expand': row.expanded / width}
                    width = row.out_channels
        decisions = space.decisions(options)
    except (UserError, ValueError) as error:
        raise UserError(f'the network is none of the space {space.name}.') from error
    if _shapes(space.spec(decisions)) != _shapes(spec):
        raise UserError(f'the network is none of the space {space.name}.')
    return decisions


def _shapes(spec: NetworkSpec) -> list[tuple]:
    """What of each row a latency depends on."""
    fields = ('kind', 'kernel_size', 'expanded', 'out_channels', 'stride')
    return [
        (*(getattr(at.row, field) for field in fields), at.squeezed, at.row.adds_residual(at.in_channels))
        for at in positions(spec, image_size=224)
    ]
