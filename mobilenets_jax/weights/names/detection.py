"""The layers of detectors: torchvision's modules, and TFLite's by the order of execution.

Reference: torchvision 0.28 models/detection/ssdlite.py.
"""

from collections.abc import Callable

from flax.traverse_util import flatten_dict, unflatten_dict

from mobilenets_jax.weights.names import order, torchvision
from mobilenets_jax.weights.names.naming import Names, conv_norm, pair
from mobilenets_jax.weights.network import Network
from mobilenets_jax.weights.readers.tflite import LAST

STEM = 'backbone.features.0.0.0'  # torchvision's
_EXTRA_UNITS = ('reduce', 'depthwise', 'expand')
_PREDICTORS = {'boxes': 'head.regression_head', 'classes': 'head.classification_head'}
# torchvision's codes are x, y, width, height; ours are y, x, height, width.
_CODES = [1, 0, 3, 2]


def last_layer(map_index: int) -> str:
    """The layer of torchvision's that gives the logits of a map."""
    return f'head.classification_head.module_list.{map_index}.1'


def _torchvision(network: Network) -> Names:
    """The classifier's sequence of features is divided inside of the endpoint's block, after its expansion."""
    names = torchvision.MAPS[network.name](network)
    names = {path: _cut(name, _tapped(network)) for path, name in names.items() if path.startswith('backbone/')}
    for layer in network.layers:
        part, _, unit = layer.path.removeprefix('head/').partition('/')
        kind, number = part.rstrip('0123456789'), part.lstrip('abcdefghijklmnopqrstuvwxyz')
        path = layer.path.rpartition('/')[0]
        if kind == 'extra':
            module = f'backbone.extra.{int(number) - 1}.{_EXTRA_UNITS.index(unit.partition("/")[0])}'
            names |= pair(path, module)
        elif kind in _PREDICTORS and unit == 'project':
            names[layer.path] = f'{_PREDICTORS[kind]}.module_list.{number}.1'
        elif kind in _PREDICTORS:
            module = f'{_PREDICTORS[kind]}.module_list.{number}.0'
            names |= conv_norm(path, f'{module}.0', f'{module}.1')
    return names


def _tapped(network: Network) -> int:
    """The place of the tapped block among torchvision's features: that of the last strided one."""
    return 1 + max(index for index, row in enumerate(network.table.blocks) if row.stride == 2)


def _cut(name: str, tapped: int) -> str:
    """The name in a detector of the layer `name` of a classifier."""
    _, place, inner = name.split('.', 2)
    place = int(place)
    if place < tapped:
        return f'backbone.features.0.{place}.{inner}'
    if place > tapped:
        return f'backbone.features.1.{place - tapped}.{inner}'
    inner = inner.removeprefix('block.')
    expansion = inner.startswith('0.')
    return f'backbone.features.0.{tapped}.{inner[2:]}' if expansion else f'backbone.features.1.0.{inner}'


def _in_order(network: Network) -> Names:
    names = order.MAP(network)
    last = [layer.path for layer in network.layers if layer.kind != 'norm'][-1]
    return names | {last: LAST}


# Source -> its names for the layers of a detector.
MAPS: dict[str, Callable[[Network], Names]] = {'torchvision': _torchvision, 'tflite': _in_order}


def with_our_codes(source: str, variables: dict) -> dict:
    """`variables` of a detector with codes in our order, whatever that of the source."""
    if source != 'torchvision':
        return variables
    leaves = flatten_dict(variables)
    for path, leaf in leaves.items():
        if path[-2] == 'project' and path[-3].startswith('boxes'):
            by_anchor = leaf.reshape(*leaf.shape[:-1], -1, len(_CODES))[..., _CODES]
            leaves[path] = by_anchor.reshape(leaf.shape)
    return unflatten_dict(leaves)
