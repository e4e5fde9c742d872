"""The modules of github.com/d-li14/mobilenetv2.pytorch.

Reference: models/imagenet/mobilenetv2.py@1733532. That author's MobileNetV3 applies squeeze-excite before the
    activation, which is another network than ours; its weights have no map.
"""

from mobilenets_jax.weights.names.naming import NameMap, Names, conv_norm, pair, units
from mobilenets_jax.weights.network import Network


def _v2(network: Network) -> Names:
    """Blocks are plain sequences of convolution, norm and activation."""
    names = pair('backbone/stem', 'features.0') | pair('backbone/head_conv', 'conv')
    for number, unit, path in units(network):
        sequence, first = f'features.{number + 1}.conv', 3 * network.blocks[number].index(unit)
        names |= conv_norm(path, f'{sequence}.{first}', f'{sequence}.{first + 1}')
    return names


MAPS = {'mobilenet_v2': NameMap('features.0.0', 'classifier', _v2)}
