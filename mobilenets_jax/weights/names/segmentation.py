"""The layers of segmentation networks: torchvision's modules, and TFLite's by the order of execution.

Reference: torchvision 0.28 models/segmentation/{lraspp,deeplabv3}.py.
"""

from collections.abc import Callable

from mobilenets_jax.weights.names import order, torchvision
from mobilenets_jax.weights.names.naming import Names, conv_norm, pair
from mobilenets_jax.weights.network import Network
from mobilenets_jax.weights.readers.tflite import LAST

STEM = 'backbone.0.0'  # torchvision's


def _torchvision(network: Network) -> Names:
    """A backbone is the classifier's sequence of features under another name."""
    names = torchvision.MAPS[network.name](network)
    names = {path: name.replace('features.', 'backbone.', 1) for path, name in names.items() if '/' in path}
    if network.has('head/gate'):
        return names | _lr_aspp()
    return names | _aspp(network)


def _lr_aspp() -> Names:
    layers = {'gate': 'scale.1', 'low_logits': 'low_classifier', 'high_logits': 'high_classifier'}
    return pair('head/project', 'classifier.cbr') | {
        f'head/{layer}': f'classifier.{name}' for layer, name in layers.items()
    }


def _aspp(network: Network) -> Names:
    branches = [layer.path.split('/')[1] for layer in network.layers if layer.path.startswith('head/aspp')]
    branches = list(dict.fromkeys(branches))
    names = {'head/logits': 'classifier.4'}
    for number, branch in enumerate(branches):
        names |= pair(f'head/{branch}', f'classifier.0.convs.{number}')
    pooled = f'classifier.0.convs.{len(branches)}'
    names |= conv_norm('head/image_pool', f'{pooled}.1', f'{pooled}.2') | pair(
        'head/projection', 'classifier.0.project'
    )
    return names | conv_norm('head/refine', 'classifier.1', 'classifier.2')


def _in_order(network: Network) -> Names:
    return order.MAP(network) | {'head/logits': LAST}


# Source -> its names for the layers of a segmentation network.
MAPS: dict[str, Callable[[Network], Names]] = {'torchvision': _torchvision, 'tflite': _in_order}
