"""The modules of torchvision's models.

Reference: torchvision 0.28 models/mobilenetv2.py, mobilenetv3.py, mnasnet.py, shufflenetv2.py, resnet.py.
"""

from mobilenets_jax.weights.names.naming import NameMap, Names, conv_norm, pair, stages, units
from mobilenets_jax.weights.network import Network


def _v2(network: Network) -> Names:
    """Blocks are sequences of pairs; the projection's two modules are in the sequence itself."""
    names = pair('backbone/stem', 'features.0')
    for number, unit, path in units(network):
        sequence, place = f'features.{number + 1}.conv', network.blocks[number].index(unit)
        if unit == 'project':
            names |= conv_norm(path, f'{sequence}.{place}', f'{sequence}.{place + 1}')
        else:
            names |= pair(path, f'{sequence}.{place}')
    return names | pair('backbone/head_conv', f'features.{len(network.blocks) + 1}')


def _v3(network: Network) -> Names:
    """Blocks are sequences of pairs and squeeze-excites."""
    names = pair('backbone/stem', 'features.0') | {'pre_logits': 'classifier.0'}
    for number, unit, path in units(network):
        modules = list(dict.fromkeys(name.partition('/')[0] for name in network.blocks[number]))
        module = f'features.{number + 1}.block.{modules.index(unit.partition("/")[0])}'
        squeeze_excite = {'se/reduce': 'fc1', 'se/expand': 'fc2'}.get(unit)
        names |= {path: f'{module}.{squeeze_excite}'} if squeeze_excite else pair(path, module)
    return names | pair('backbone/head_conv', f'features.{len(network.blocks) + 1}')


def _mnasnet(network: Network) -> Names:
    """One long sequence; the first block is in it, the stages of the others are sequences within it."""
    names = conv_norm('backbone/stem', 'layers.0', 'layers.1')
    places = stages(network)
    for number, unit, path in units(network):
        stage, place = places[number]
        first = 3 * network.blocks[number].index(unit)  # convolution, norm, activation
        if stage == 0:
            names |= conv_norm(path, f'layers.{3 + first}', f'layers.{4 + first}')
        else:
            block = f'layers.{7 + stage}.{place}.layers'
            names |= conv_norm(path, f'{block}.{first}', f'{block}.{first + 1}')
    return names | conv_norm('backbone/head_conv', 'layers.14', 'layers.15')


_SHUFFLE_UNITS = {
    'shortcut_depthwise': ('branch1', 0),
    'shortcut_pointwise': ('branch1', 2),
    'compress': ('branch2', 0),
    'depthwise': ('branch2', 3),
    'expand': ('branch2', 5),
}


def _shufflenet_v2(network: Network) -> Names:
    names = pair('backbone/stem', 'conv1') | pair('backbone/head_conv', 'conv5')
    places = stages(network, key=lambda row: row.out_channels)
    for number, unit, path in units(network):
        stage, place = places[number]
        branch, first = _SHUFFLE_UNITS[unit]
        block = f'stage{stage + 2}.{place}.{branch}'
        names |= conv_norm(path, f'{block}.{first}', f'{block}.{first + 1}')
    return names


_BOTTLENECK_UNITS = {'reduce': 1, 'spatial': 2, 'expand': 3}
_BOTTLENECK_SQUEEZE_EXCITE = {'se/reduce': 'se.fc1', 'se/expand': 'se.fc2'}


def resnet(network: Network) -> Names:
    """ResNets, in torchvision and in timm alike; squeeze-excite as timm has it."""
    names = {'backbone/stem/bn': 'bn1'}
    places = stages(network)
    for number, unit, path in units(network):
        stage, place = places[number]
        block = f'layer{stage + 1}.{place}'
        if unit in _BOTTLENECK_SQUEEZE_EXCITE:
            names[path] = f'{block}.{_BOTTLENECK_SQUEEZE_EXCITE[unit]}'
        elif unit == 'shortcut':
            names |= pair(path, f'{block}.downsample')
        else:
            names |= conv_norm(path, f'{block}.conv{_BOTTLENECK_UNITS[unit]}', f'{block}.bn{_BOTTLENECK_UNITS[unit]}')
    return names


MAPS = {
    'mobilenet_v2': NameMap('features.0.0', 'classifier.1', _v2),
    'mobilenet_v3_large': NameMap('features.0.0', 'classifier.3', _v3),
    'mobilenet_v3_small': NameMap('features.0.0', 'classifier.3', _v3),
    'mnasnet_b1': NameMap('layers.0', 'classifier.1', _mnasnet),
    'shufflenet_v2': NameMap('conv1.0', 'fc', _shufflenet_v2),
    'resnet50': NameMap('conv1', 'fc', resnet),
}
