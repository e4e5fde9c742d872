"""The layers of the TensorFlow Model Garden's classifiers, as its object-based checkpoints number them.

Reference: tf-models-official 2.20 vision/modeling/backbones/mobilenet.py, layers/nn_blocks.py, classification_model.py.
"""

from mobilenets_jax.weights.names.naming import NameMap, Names, conv_norm, units
from mobilenets_jax.weights.network import Network

_BACKBONE = 'model/layer_with_weights-0'
# Unit of a block -> (convolution, norm) of the layer that is the block.
_SEPARABLE = {'depthwise': ('_dwconv0', '_norm0'), 'pointwise': ('_conv1', '_norm1')}
_BOTTLENECK = {'expand': ('_conv0', '_norm0'), 'depthwise': ('_conv1', '_norm1'), 'project': ('_conv2', '_norm2')}
_SQUEEZE_EXCITE = {
    'se/reduce': '_squeeze_excitation/_se_reduce',
    'se/expand': '_squeeze_excitation/_se_expand',
}


def _layer(number: int) -> str:
    """The layer with weights of that number in the backbone: the stem is 0, the first block 1."""
    return f'{_BACKBONE}/layer_with_weights-{number}'


def _names(network: Network) -> Names:
    head = len(network.blocks) + 1
    names = {'backbone/stem/bn': f'{_layer(0)}/_norm0', 'pre_logits': f'{_layer(head + 1)}/_conv0'}
    names |= conv_norm('backbone/head_conv', f'{_layer(head)}/_conv0', f'{_layer(head)}/_norm0')
    for number, unit, path in units(network):
        block = _layer(number + 1)
        if unit in _SQUEEZE_EXCITE:
            names[path] = f'{block}/{_SQUEEZE_EXCITE[unit]}'
        else:
            conv, norm = (_SEPARABLE if 'pointwise' in network.blocks[number] else _BOTTLENECK)[unit]
            names |= conv_norm(path, f'{block}/{conv}', f'{block}/{norm}')
    return names


MAPS = dict.fromkeys(
    (
        'mobilenet_v1',
        'mobilenet_v2',
        'mobilenet_v3_large',
        'mobilenet_v3_small',
        'mobilenet_v3_large_minimalistic',
        'mobilenet_v3_small_minimalistic',
    ),
    NameMap(f'{_layer(0)}/_conv0', 'model/layer_with_weights-1', _names),
)
