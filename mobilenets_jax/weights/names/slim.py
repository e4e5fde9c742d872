"""The layers of slim's networks, by the variable scopes of their checkpoints.

Reference: tensorflow/models research/slim/nets/mobilenet_v1.py@0cf9932, mobilenet/mobilenet.py@02c04f4,
    mobilenet/conv_blocks.py@10cf1c0.
"""

import functools

from mobilenets_jax.weights.names.naming import NameMap, Names, conv_norm, units
from mobilenets_jax.weights.network import Network

_SQUEEZE_EXCITE = {'se/reduce': 'squeeze_excite/Conv', 'se/expand': 'squeeze_excite/Conv_1'}


def _scope(path: str, scope: str) -> Names:
    return conv_norm(path, scope, f'{scope}/BatchNorm')


def _v1(network: Network) -> Names:
    names = _scope('backbone/stem', 'MobilenetV1/Conv2d_0')
    for number, unit, path in units(network):
        names |= _scope(path, f'MobilenetV1/Conv2d_{number + 1}_{unit}')
    return names


def _inverted_residuals(network: Network, *, root: str) -> Names:
    names = _scope('backbone/stem', f'{root}/Conv') | _scope('backbone/head_conv', f'{root}/Conv_1')
    for number, unit, path in units(network):
        block = f'{root}/expanded_conv_{number}' if number else f'{root}/expanded_conv'
        if unit in _SQUEEZE_EXCITE:
            names[path] = f'{block}/{_SQUEEZE_EXCITE[unit]}'
        else:
            names |= _scope(path, f'{block}/{unit}')
    return names | {'pre_logits': f'{root}/Conv_2'}


def _map(root: str) -> NameMap:
    return NameMap(f'{root}/Conv', f'{root}/Logits/Conv2d_1c_1x1', functools.partial(_inverted_residuals, root=root))


MAPS = {
    'mobilenet_v1': NameMap('MobilenetV1/Conv2d_0', 'MobilenetV1/Logits/Conv2d_1c_1x1', _v1),
    'mobilenet_v2': _map('MobilenetV2'),
    **dict.fromkeys(
        (
            'mobilenet_v3_large',
            'mobilenet_v3_small',
            'mobilenet_v3_large_minimalistic',
            'mobilenet_v3_small_minimalistic',
        ),
        _map('MobilenetV3'),
    ),
}
