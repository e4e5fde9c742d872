"""The modules of torchvision's models.

Reference: torchvision 0.28 models/mobilenetv2.py, mobilenetv3.py.
"""

from mobilenets_jax.weights.names.naming import NameMap, Names, conv_norm, units
from mobilenets_jax.weights.network import Network


def _pair(path: str, module: str) -> Names:
    """A convolution and its norm that are the first two modules of a sequence."""
    return conv_norm(path, f'{module}.0', f'{module}.1')


def _v2(network: Network) -> Names:
    """Blocks are sequences of pairs; the projection's two modules stand in the sequence itself."""
    names = _pair('backbone/stem', 'features.0')
    for number, unit, path in units(network):
        sequence, place = f'features.{number + 1}.conv', network.blocks[number].index(unit)
        if unit == 'project':
            names |= conv_norm(path, f'{sequence}.{place}', f'{sequence}.{place + 1}')
        else:
            names |= _pair(path, f'{sequence}.{place}')
    return names | _pair('backbone/head_conv', f'features.{len(network.blocks) + 1}')


def _v3(network: Network) -> Names:
    """Blocks are sequences of pairs and squeeze-excites."""
    names = _pair('backbone/stem', 'features.0') | {'pre_logits': 'classifier.0'}
    for number, unit, path in units(network):
        modules = list(dict.fromkeys(name.partition('/')[0] for name in network.blocks[number]))
        module = f'features.{number + 1}.block.{modules.index(unit.partition("/")[0])}'
        squeeze_excite = {'se/reduce': 'fc1', 'se/expand': 'fc2'}.get(unit)
        names |= {path: f'{module}.{squeeze_excite}'} if squeeze_excite else _pair(path, module)
    return names | _pair('backbone/head_conv', f'features.{len(network.blocks) + 1}')


MAPS = {
    'mobilenet_v2': NameMap('features.0.0', 'classifier.1', _v2),
    **dict.fromkeys(('mobilenet_v3_large', 'mobilenet_v3_small'), NameMap('features.0.0', 'classifier.3', _v3)),
}
