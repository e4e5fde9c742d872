"""From named arrays to our variables: every array finds its place, or the file is refused with both sides listed."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from flax.traverse_util import unflatten_dict

from mobilenets_jax.weights.layouts import Layout
from mobilenets_jax.weights.network import Layer, Network

MAX_LISTED = 3  # of each kind of difference, in an error


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """What a file and a network do not share.

    Attributes:
        missing: arrays of the network that the file does not have, with their shapes.
        left_over: arrays of the file that the network does not have, with their shapes.
        reshaped: what both have, in different shapes.
    """

    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    reshaped: tuple[str, ...]

    @property
    def foreign(self) -> int:
        """How many arrays only one of both has."""
        return len(self.missing) + len(self.left_over)

    def __len__(self) -> int:
        return len(self.missing) + len(self.left_over) + len(self.reshaped)

    def __str__(self) -> str:
        parts = {
            'missing from the file': self.missing,
            'left over in the file': self.left_over,
            'of another shape': self.reshaped,
        }
        return '; '.join(f'{title}: {_listed(names)}' for title, names in parts.items() if names)


def _listed(names: tuple[str, ...]) -> str:
    more = f' and {len(names) - MAX_LISTED} more' if len(names) > MAX_LISTED else ''
    return ', '.join(names[:MAX_LISTED]) + more


def compare(
    network: Network, names: Mapping[str, str | None], layout: Layout, arrays: dict[str, np.ndarray]
) -> Mismatch:
    """What the arrays of a file lack, have too much or shape otherwise.

    Args:
        network: ours.
        names: our layers' paths to the file's layers; None for a layer that the file need not have.
        layout: of the file's framework.
        arrays: the file's.
    """
    missing, reshaped, asked = [], [], set()
    for layer in network.layers:
        for leaf, shape in layer.shapes.items():
            key = _key(layer, leaf, names, layout)
            if key is None:
                continue
            asked.add(key)
            if key not in arrays:
                missing.append(f'{key} {list(shape)}')
            elif (found := _in_our_layout(arrays[key], layer, leaf, layout).shape) != shape:
                reshaped.append(f'{key} {list(found)} where {list(shape)} is asked for')
    left_over = [
        f'{key} {list(array.shape)}'
        for key, array in arrays.items()
        if key not in asked and not layout.ignored.search(key)
    ]
    return Mismatch(tuple(missing), tuple(left_over), tuple(reshaped))


def to_variables(
    network: Network, names: Mapping[str, str | None], layout: Layout, arrays: dict[str, np.ndarray]
) -> dict:
    """Our variables, float32, of arrays in which `compare` finds no mismatch; layers that are not in it are zeros."""
    leaves = {}
    for layer in network.layers:
        identity = {'scale': 1.0, 'mean': 0.0, 'var': 1.0 - layer.epsilon}  # a folded norm only adds its bias
        for leaf, shape in layer.shapes.items():
            key = _key(layer, leaf, names, layout)
            if names[layer.path] is None:
                leaves[leaf] = np.zeros(shape, np.float32)
            elif key is None:
                leaves[leaf] = np.full(shape, identity[_last(leaf)], np.float32)
            else:
                leaves[leaf] = np.ascontiguousarray(_in_our_layout(arrays[key], layer, leaf, layout), np.float32)
    return unflatten_dict(leaves, sep='/')


def _last(leaf: str) -> str:
    return leaf.rpartition('/')[2]


def _key(layer: Layer, leaf: str, names: Mapping[str, str | None], layout: Layout) -> str | None:
    """The file's name for a leaf, or None if the file has no such layer, or folding removed it."""
    suffix, name = layout.suffixes[layer.kind].get(_last(leaf)), names[layer.path]
    return None if name is None or (suffix is None and layout.folded) else f'{name}{suffix}'


def _in_our_layout(array: np.ndarray, layer: Layer, leaf: str, layout: Layout) -> np.ndarray:
    try:
        return layout.to_ours(array, layer.kind, _last(leaf), layer.shapes[leaf])
    except ValueError:  # as many axes as no kernel has
        return array
