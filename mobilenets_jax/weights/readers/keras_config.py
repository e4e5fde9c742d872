"""What a Keras model's config says of the network's input and its classifier.

Layers in front of the first convolution set the size and the range of the input; those behind the pooling are the
classifier. What this project's networks cannot be is refused by name: another pooling, a rescaling to no known range,
a layer whose code would have to be run.
"""

import dataclasses
import re
from typing import Any

import numpy as np

from mobilenets_jax.data.options import NORMALIZATIONS
from mobilenets_jax.weights.readers.errors import UnreadableFileError
from mobilenets_jax.weights.readers.keras_graph import Graph, Node

RGB = 3
STRIDED_CONVOLUTIONS = 5  # of every MobileNet: from 224 to 7 px
EPSILON = 1e-3  # of the batch norms of keras.applications

# Layers that are inactive when a network is evaluated, or only resize, pad and cast.
_NO_CHANGE = re.compile(
    'InputLayer|Rand|MixUp|CutMix|AugMix|Gaussian|Dropout|SpatialDropout|Resizing|CenterCrop|ZeroPadding2D|Cast'
)
_RESIZING = ('Resizing', 'CenterCrop', 'RandomCrop')
# Operations on the input, as Keras 2 ('math.truediv') and Keras 3 ('TrueDivide') call them -> what they are.
_OPERATIONS = {
    **dict.fromkeys(('math.truediv', 'math.divide', '__operators__.truediv', 'TrueDivide', 'Divide'), 'divide'),
    **dict.fromkeys(('math.multiply', '__operators__.mul', 'Multiply'), 'multiply'),
    **dict.fromkeys(('math.subtract', '__operators__.sub', 'Subtract'), 'subtract'),
    **dict.fromkeys(('math.add', '__operators__.add', 'Add'), 'add'),
    **dict.fromkeys(('cast', 'compat.v1.cast', 'Cast'), 'cast'),
}
_ACTIVATIONS = ('Activation', 'Softmax', 'TFOpLambda', 'Sigmoid')
_RESHAPING = re.compile('Flatten|Reshape|Dropout|GaussianDropout|InputLayer')
_POOLING = 'GlobalAveragePooling2D'
_BEHIND_CONVOLUTION = re.compile('BatchNormalization|ReLU|Activation|Multiply|Add|TFOpLambda|Hard\\w+')
_CONVOLUTIONS = ('Conv2D', 'DepthwiseConv2D')
_LOGITS = ('linear', 'softmax', 'sigmoid', 'log_softmax')
# What a backbone of the family is made of; its activations are spelled in many ways.
_BACKBONE = re.compile(
    'Conv2D|DepthwiseConv2D|BatchNormalization|ReLU|Activation|Multiply|Add|TFOpLambda|ZeroPadding2D|Reshape|'
    'GlobalAveragePooling2D|Dropout|HardSigmoid|HardSwish|HardSilu|Rescaling|InputLayer|Relu6|TrueDivide|Mean'
)


@dataclasses.dataclass(frozen=True)
class Stated:
    """What a config says.

    Attributes:
        image_size: see `Contents`.
        normalization: see `Contents`.
        classifier: the names of the layers with weights after the pooling, in their order.
        classifier_fault: why they are no classifier of this project, or None.
        backbone_fault: see `Contents`.
        rectifier: see `Contents`.
        consumed: the names of layers with weights that are part of the value range.
        notes: see `Contents`.
    """

    image_size: int | None
    normalization: str | None
    classifier: tuple[str, ...]
    classifier_fault: str | None
    backbone_fault: str | None
    rectifier: str | None
    consumed: tuple[str, ...]
    notes: tuple[str, ...]


def read_statements(graph: Graph, arrays: dict[str, np.ndarray]) -> Stated:
    """Reads the graph of a model.

    Args:
        graph: of the whole model.
        arrays: its weights by 'layer/variable', for the statistics of Normalization layers.

    Raises:
        UnreadableFileError: the model is none that this project can be.
    """
    entry = _entry(graph)
    size, notes = _image_size(graph, entry)
    normalization, consumed = _find_normalization([graph.nodes[key] for key in entry], arrays)
    classifier, fault, behind, more = _classifier(graph)
    backbone = [node for key, node in graph.nodes.items() if key not in {*entry, *behind}]
    rectifiers = _rectifiers(graph)
    backbone_fault = _backbone_fault(backbone)
    rectifier = next((name for name in ('relu', 'relu6') if rectifiers == {name}), None)
    if rectifiers and rectifier is None and backbone_fault is None:
        backbone_fault = f'behind its batch norms it has {" and ".join(sorted(rectifiers))}'
    return Stated(size, normalization, classifier, fault, backbone_fault, rectifier, consumed, (*notes, *more))


def _entry(graph: Graph) -> list[str]:
    """The keys of the nodes in front of the first convolution, the input first."""
    starts = [key for key, node in graph.nodes.items() if not node.inputs]
    if len(starts) != 1 or len(graph.outputs) != 1:
        raise UnreadableFileError(
            f'its model has {len(starts)} inputs and {len(graph.outputs)} outputs, not one of each'
        )
    entry, key = [], starts[0]
    while key is not None and graph.nodes[key].kind != 'Conv2D':
        entry.append(key)
        key = graph.only(graph.consumers(key))
    return entry


def _image_size(graph: Graph, entry: list[str]) -> tuple[int | None, tuple[str, ...]]:
    first = graph.nodes[entry[0]].config if entry else next(iter(graph.nodes.values())).config
    shape = first.get('batch_shape') or first.get('batch_input_shape') or [None] * 4
    if len(shape) != 4 or shape[-1] not in (None, RGB):
        raise UnreadableFileError(f'its input has the shape {shape}; images of {RGB} channels are read')
    sizes = tuple(shape[1:3])
    for node in (graph.nodes[key] for key in entry):
        if node.kind in _RESIZING:
            sizes = node.config.get('height'), node.config.get('width')
    if None in sizes:
        return None, ()
    if sizes[0] != sizes[1]:
        return None, (f'its input has {sizes[0]}x{sizes[1]} pixels; images are cut to squares here.',)
    return int(sizes[0]), ()


def _find_normalization(entry: list[Node], arrays: dict[str, np.ndarray]) -> tuple[str | None, tuple[str, ...]]:
    """The key of `NORMALIZATIONS` that the layers of the entry apply to pixels in [0, 255]; None if no layer does."""
    scale, offset, consumed, changed = np.ones(RGB), np.zeros(RGB), [], False
    for node in entry:
        if _NO_CHANGE.match(node.kind):
            continue
        factor, summand = _affine(node, arrays)
        scale, offset, changed = scale * factor, offset * factor + summand, True
        if f'{node.name}/mean' in arrays:
            consumed.append(node.name)
    if not changed:
        return None, ()
    for name, (mean, std) in NORMALIZATIONS.items():
        expected = 1 / (255 * np.array(std)), -np.array(mean) / np.array(std)
        if np.allclose(scale, expected[0], rtol=1e-3) and np.allclose(offset, expected[1], rtol=1e-3, atol=1e-3):
            return name, tuple(consumed)
    layers = ', '.join(f'{node.kind} {node.name}' for node in entry if not _NO_CHANGE.match(node.kind))
    raise UnreadableFileError(
        f'its layers {layers} turn pixels x in [0, 255] into {_rounded(scale)} x + {_rounded(offset)}, '
        f'which is none of the known ranges {", ".join(NORMALIZATIONS)}'
    )


def _rounded(values: np.ndarray) -> str:
    numbers = [f'{value:.4g}' for value in values]
    return numbers[0] if len(set(numbers)) == 1 else f'[{", ".join(numbers)}]'


def _affine(node: Node, arrays: dict[str, np.ndarray]) -> tuple[Any, Any]:
    """(factor, summand) of a layer in front of the first convolution."""
    config = node.config
    if node.kind == 'Rescaling':
        return np.asarray(config['scale'], float), np.asarray(config.get('offset', 0.0), float)
    if node.kind == 'Normalization':
        return _normalization(node, arrays)
    function = config['function'] if node.kind == 'TFOpLambda' else node.kind
    operation = _OPERATIONS.get(function)
    if operation == 'cast':
        return 1.0, 0.0
    known = operation is not None and len(node.numbers) == len(node.inputs) == 1
    if not known or (node.reversed and operation == 'divide') or (operation == 'divide' and not node.numbers[0]):
        raise UnreadableFileError(f'it begins with the layer {node.name} ({function}), whose effect is not known')
    number = node.numbers[0]
    return {
        'divide': (1 / (number or 1.0), 0.0),
        'multiply': (number, 0.0),
        'subtract': (-1.0, number) if node.reversed else (1.0, -number),
        'add': (1.0, number),
    }[operation]


def _normalization(node: Node, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    statistics = []
    for name in ('mean', 'variance'):
        value = node.config.get(name)
        value = arrays.get(f'{node.name}/{name}') if value is None else value
        if value is None:
            raise UnreadableFileError(f'its layer {node.name} (Normalization) has no {name}')
        statistics.append(np.asarray(value, float).reshape(-1))
    mean, std = statistics[0], np.sqrt(statistics[1])
    return (std, mean) if node.config.get('invert') else (1 / std, -mean / std)


def _classifier(graph: Graph) -> tuple[tuple[str, ...], str | None, list[str], tuple[str, ...]]:
    """The classifier's layers with weights, why it is not one of ours, the keys after the pooling, and notes."""
    layers: list[Node] = []
    faults: list[str] = []
    behind: list[str] = []
    activation = 'linear'
    key: str | None = graph.outputs[0]
    while key is not None and (node := graph.nodes[key]).kind != _POOLING:
        if node.kind == 'Conv2D' and not layers and _is_pointwise(node):  # as keras.applications has it
            layers.append(node)
            behind.append(key)
            break
        if _in_backbone(graph, key):
            break
        if node.kind == 'Dense':
            layers.insert(0, node)
        elif node.kind in _ACTIVATIONS and not layers:
            activation = node.config.get('activation') or node.config.get('function', 'softmax').rpartition('.')[2]
        elif not _RESHAPING.match(node.kind) and not _is_identity(node):
            faults.insert(0, f'{node.name} ({node.kind})')
        behind.append(key)
        key = graph.only(node.inputs)
    if not layers:
        return (), None, [], ()
    names = tuple(
        node.name for node in graph.nodes.values() if node in layers or f'{node.name} ({node.kind})' in faults
    )
    fault, notes = _judged(layers, faults, activation)
    return names, fault, behind, notes


def _in_backbone(graph: Graph, key: str) -> bool:
    """Whether a layer is a convolution, or the norm, activation or sum after one."""
    while (node := graph.nodes[key]).kind not in _CONVOLUTIONS:
        if not _BEHIND_CONVOLUTION.fullmatch(node.kind) or not node.inputs:
            return False
        key = node.inputs[0]
    return True


def _judged(layers: list[Node], faults: list[str], activation: str) -> tuple[str | None, tuple[str, ...]]:
    last = layers[-1]
    own = last.config.get('activation', 'linear')
    activation = own if isinstance(own, str) and own != 'linear' else activation
    if len(layers) > 1:
        names = ', '.join(layer.name for layer in layers)
        return f'its classifier has {len(layers)} layers ({names}) where the network has one', ()
    if faults:
        return f'its classifier has other layers than a mean and a dense layer: {", ".join(faults)}', ()
    if activation not in _LOGITS:
        return f'its classifier {last.name} ends in {activation}', ()
    classes = last.config.get('units') or last.config.get('filters')
    if activation == 'sigmoid' and classes != 1:
        return None, (
            f'its classifier {last.name} has a sigmoid for each of {classes} classes, of which several may be true; '
            'here one is chosen.',
        )
    return None, ()


def _is_pointwise(node: Node) -> bool:
    return list(node.config.get('kernel_size', ())) == [1, 1] and bool(node.config.get('use_bias', True))


def _is_identity(node: Node) -> bool:
    return node.kind == 'Activation' and node.config.get('activation') == 'linear'


def _rectifiers(graph: Graph) -> set[str]:
    """The activations after the batch norms: 'relu', 'relu6', or a description of a ReLU with other constants."""
    found = set()
    for node in graph.nodes.values():
        if any(graph.nodes[key].kind == 'BatchNormalization' for key in node.inputs):
            if node.kind == 'ReLU':
                found.add(_relu(node.config))
            elif node.kind == 'Activation' and node.config.get('activation') in ('relu', 'relu6'):
                found.add(node.config['activation'])
    return found


def _relu(config: dict[str, Any]) -> str:
    constants = {name: config.get(name) or 0.0 for name in ('max_value', 'negative_slope', 'threshold')}
    plain = constants['negative_slope'] == constants['threshold'] == 0
    if plain and constants['max_value'] in (0.0, 6.0):
        return 'relu6' if constants['max_value'] else 'relu'
    return f'ReLU({", ".join(f"{name}={value:g}" for name, value in constants.items())})'


def _backbone_fault(nodes: list[Node]) -> str | None:
    """A difference between the backbone and the network with the same names and shapes of weights, or None."""
    strided = 0
    for node in nodes:
        config = node.config
        if not _BACKBONE.fullmatch(node.kind):
            return f'its layer {node.name} ({node.kind}) is none of that network'
        if node.kind == 'BatchNormalization' and abs(config.get('epsilon', EPSILON) - EPSILON) > 1e-9:
            return f'its layer {node.name} has epsilon={config["epsilon"]}, not {EPSILON}'
        if config.get('depth_multiplier', 1) != 1:
            return f'its layer {node.name} has depth_multiplier={config["depth_multiplier"]}'
        if list(config.get('dilation_rate', (1, 1))) != [1, 1]:
            return f'its layer {node.name} is dilated'
        strided += list(config.get('strides') or (1, 1)) == [2, 2]
    wrong = strided != STRIDED_CONVOLUTIONS
    return f'{strided} of its layers have stride 2, not {STRIDED_CONVOLUTIONS}' if wrong else None
