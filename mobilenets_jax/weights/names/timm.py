"""The modules of timm's models.

Reference: timm 1.0.31 models/_efficientnet_blocks.py, _efficientnet_builder.py, mobilenetv3.py, efficientnet.py,
    ghostnet.py, resnet.py.
"""

from mobilenets_jax.weights.names.naming import NameMap, Names, conv_norm, pair, stages, units
from mobilenets_jax.weights.names.torchvision import resnet
from mobilenets_jax.weights.network import Network

_SQUEEZE_EXCITE = {'se/reduce': 'se.conv_reduce', 'se/expand': 'se.conv_expand'}
# What a block calls its convolutions, with and without an expansion; its norms are counted from 1.
_EXPANDED = {'expand': 'conv_pw', 'depthwise': 'conv_dw', 'project': 'conv_pwl'}
_SEPARABLE = {'depthwise': 'conv_dw', 'project': 'conv_pw', 'pointwise': 'conv_pw'}


def _blocks(network: Network) -> Names:
    names = {'backbone/stem/bn': 'bn1'}
    places = stages(network)
    for number, unit, path in units(network):
        block = 'blocks.{}.{}'.format(*places[number])
        if unit in _SQUEEZE_EXCITE:
            names[path] = f'{block}.{_SQUEEZE_EXCITE[unit]}'
        else:
            convs = _EXPANDED if 'expand' in network.blocks[number] else _SEPARABLE
            normed = [name for name in network.blocks[number] if name in convs]
            names |= conv_norm(path, f'{block}.{convs[unit]}', f'{block}.bn{normed.index(unit) + 1}')
    return names


def _efficientnet(network: Network) -> Names:
    return _blocks(network) | conv_norm('backbone/head_conv', 'conv_head', 'bn2')


def _v3(network: Network) -> Names:
    """The convolution before pooling is one more stage; `conv_head` is the biased layer after it."""
    last = f'blocks.{stages(network)[-1][0] + 1}.0'
    return (
        _blocks(network) | conv_norm('backbone/head_conv', f'{last}.conv', f'{last}.bn1') | {'pre_logits': 'conv_head'}
    )


_GHOST_MODULES = {
    'expand/primary': 'ghost1.primary_conv',
    'expand/cheap': 'ghost1.cheap_operation',
    'project/primary': 'ghost2.primary_conv',
    'project/cheap': 'ghost2.cheap_operation',
    'shortcut_depthwise': 'shortcut',
}


def _ghostnet(network: Network) -> Names:
    """Every strided block is a stage of its own."""
    names = {'backbone/stem/bn': 'bn1', 'pre_logits': 'conv_head'}
    places = stages(network, key=lambda row: row.stride)
    for number, unit, path in units(network):
        block = 'blocks.{}.{}'.format(*places[number])
        if unit in _SQUEEZE_EXCITE:
            names[path] = f'{block}.{_SQUEEZE_EXCITE[unit]}'
        elif unit == 'depthwise':
            names |= conv_norm(path, f'{block}.conv_dw', f'{block}.bn_dw')
        elif unit == 'shortcut_pointwise':
            names |= conv_norm(path, f'{block}.shortcut.2', f'{block}.shortcut.3')
        else:
            names |= pair(path, f'{block}.{_GHOST_MODULES[unit]}')
    last = f'blocks.{places[-1][0] + 1}.0'
    return names | conv_norm('backbone/head_conv', f'{last}.conv', f'{last}.bn1')


MAPS = {
    **dict.fromkeys(
        ('mobilenet_v1', 'mobilenet_v2', 'mnasnet_a1', 'mnasnet_b1', 'mnasnet_small'),
        NameMap('conv_stem', 'classifier', _efficientnet),
    ),
    **dict.fromkeys(
        (
            'mobilenet_v3_large',
            'mobilenet_v3_small',
            'mobilenet_v3_large_minimalistic',
            'mobilenet_v3_small_minimalistic',
        ),
        NameMap('conv_stem', 'classifier', _v3),
    ),
    'ghostnet': NameMap('conv_stem', 'classifier', _ghostnet),
    'se_resnet50': NameMap('conv1', 'fc', resnet),  # its resnet50 is torchvision's, name for name
}
