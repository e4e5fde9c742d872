"""Layers by the order of their execution, for files whose names mean nothing: TFLite, as `readers.tflite` counts."""

from mobilenets_jax.weights.names.naming import NameMap, Names
from mobilenets_jax.weights.network import Network
from mobilenets_jax.weights.readers.tflite import LAST

FIRST = '000'


def _numbered(network: Network) -> Names:
    """A batch norm is folded into the convolution before it, and shares its name."""
    names, number = {}, -1
    for layer in network.layers:
        number += layer.kind != 'norm'
        names[layer.path] = f'{number:03d}'
    return names | {'logits': LAST}


MAP = NameMap(FIRST, LAST, _numbered)
