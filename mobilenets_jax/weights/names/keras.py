"""The layers of keras.applications, in the spelling of `readers.keras`.

Reference: keras 3.15 applications/mobilenet.py, mobilenet_v2.py, mobilenet_v3.py.
"""

from mobilenets_jax.weights.names.naming import NameMap, Names, conv_norm, units
from mobilenets_jax.weights.network import Network

_V1 = {'depthwise': 'dw', 'pointwise': 'pw'}
_SQUEEZE_EXCITE = {'se/reduce': 'squeeze_excite_conv', 'se/expand': 'squeeze_excite_conv_1'}


def _v1(network: Network) -> Names:
    names = {'backbone/stem/bn': 'conv1_bn'}
    for number, unit, path in units(network):
        conv = f'conv_{_V1[unit]}_{number + 1}'
        names |= conv_norm(path, conv, f'{conv}_bn')
    return names


def _v2(network: Network) -> Names:
    names = {'backbone/stem/bn': 'bn_conv1'} | conv_norm('backbone/head_conv', 'conv_1', 'conv_1_bn')
    for number, unit, path in units(network):
        conv = f'block_{number}_{unit}' if number else f'expanded_conv_{unit}'
        names |= conv_norm(path, conv, f'{conv}_bn')
    return names


def _v3(network: Network) -> Names:
    names = {'backbone/stem/bn': 'conv_bn', 'pre_logits': 'conv_2'}
    names |= conv_norm('backbone/head_conv', 'conv_1', 'conv_1_bn')
    for number, unit, path in units(network):
        block = f'expanded_conv_{number}' if number else 'expanded_conv'
        if unit in _SQUEEZE_EXCITE:
            names[path] = f'{block}_{_SQUEEZE_EXCITE[unit]}'
        else:
            names |= conv_norm(path, f'{block}_{unit}', f'{block}_{unit}_bn')
    return names


MAPS = {
    'mobilenet_v1': NameMap('conv1', 'conv_preds', _v1),
    'mobilenet_v2': NameMap('conv1', 'predictions', _v2),
    **dict.fromkeys(
        (
            'mobilenet_v3_large',
            'mobilenet_v3_small',
            'mobilenet_v3_large_minimalistic',
            'mobilenet_v3_small_minimalistic',
        ),
        NameMap('conv', 'logits', _v3),
    ),
}
