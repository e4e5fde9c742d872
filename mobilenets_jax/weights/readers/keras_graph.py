"""The graph of a Keras model from its config, which is read as data: no layer is built and no code is run.

Models may hold models (a base with a head on it, a stack of augmentation layers): here they are one flat graph.

Reference: keras 3.15 src/models/functional.py, sequential.py (`get_config`), src/saving/saving_lib.py
    (`_save_container_state`); tf_keras 2.21, whose configs have other spellings of the same.
"""

import dataclasses
import re
from collections.abc import Container, Iterator
from typing import Any

from mobilenets_jax.weights.readers.errors import UnreadableFileError


@dataclasses.dataclass(frozen=True)
class Node:
    """A layer.

    Attributes:
        name: of the layer.
        kind: its class, e.g. 'Conv2D'.
        config: its own config.
        inputs: the keys of the nodes whose outputs it takes.
        numbers: the constants that it is called with, as operations are.
        reversed: whether a constant comes before the first input, as in 1 - x.
    """

    name: str
    kind: str
    config: dict[str, Any]
    inputs: tuple[str, ...]
    numbers: tuple[float, ...] = ()
    reversed: bool = False


@dataclasses.dataclass
class Graph:
    """All layers of a model.

    Attributes:
        nodes: by a key that says to which model a layer belongs, in the order of the config.
        outputs: the keys of the nodes whose outputs are the model's.
    """

    nodes: dict[str, Node] = dataclasses.field(default_factory=dict)
    outputs: tuple[str, ...] = ()

    def consumers(self, key: str) -> list[str]:
        """The keys of the nodes that take the output of `key`."""
        return [other for other, node in self.nodes.items() if key in node.inputs]

    def only(self, keys: list[str] | tuple[str, ...]) -> str | None:
        """The only one of `keys`, or None."""
        return keys[0] if len(keys) == 1 else None


def is_model(config: Any) -> bool:
    """Whether this is the config of a model that names its layers; one's own class does not."""
    inner = config.get('config') if isinstance(config, dict) else None
    return isinstance(_layers(inner), list) and config.get('class_name') in ('Functional', 'Model', 'Sequential')


def read_graph(model: dict[str, Any]) -> Graph:
    """The graph of a model's config; raises `UnreadableFileError` where it is none that can be followed."""
    graph = Graph()
    try:
        graph.outputs = tuple(_add_model(model, '', (), graph))
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UnreadableFileError(f'the config of its model cannot be followed ({error})') from error
    return graph


def _layers(config: Any) -> Any:
    return config.get('layers') if isinstance(config, dict) else config


def _name(layer: dict[str, Any]) -> str:
    return layer.get('name') or layer['config']['name']


def _add_model(model: dict[str, Any], path: str, entering: tuple[str, ...], graph: Graph) -> list[str]:
    """Adds a model's layers; returns the keys of its outputs."""
    layers = _layers(model['config'])
    if model['class_name'] == 'Sequential':
        current = list(entering)
        for layer in layers:
            current = _add_layer(layer, path, _Call(tuple(current)), graph)
        return current
    outputs: dict[str, list[str]] = {}
    for layer in layers:
        call = _call(layer.get('inbound_nodes', []), outputs)
        outputs[_name(layer)] = _add_layer(layer, path, call if call.inputs else _Call(entering), graph)
    ends = [name for name in _strings(model['config']['output_layers']) if name in outputs]
    return [key for name in ends for key in outputs[name]]


def _add_layer(layer: dict[str, Any], path: str, call: '_Call', graph: Graph) -> list[str]:
    name = _name(layer)
    if is_model(layer):
        return _add_model(layer, f'{path}{name}/', call.inputs, graph)
    key = f'{path}{name}'
    if key in graph.nodes:
        raise UnreadableFileError(f'its config has two layers {key}')
    graph.nodes[key] = Node(name, layer['class_name'], layer['config'], **dataclasses.asdict(call))
    return [key]


@dataclasses.dataclass(frozen=True)
class _Call:
    """What a layer is called with, see `Node`."""

    inputs: tuple[str, ...]
    numbers: tuple[float, ...] = ()
    reversed: bool = False


def _call(inbound: Any, outputs: dict[str, list[str]]) -> _Call:
    """The call of a layer; `outputs` has the keys of the layers before it."""
    arguments = list(_arguments(inbound, outputs))
    inputs = [key for name in arguments if isinstance(name, str) for key in outputs[name]]
    numbers = [number for number in arguments if not isinstance(number, str)]
    return _Call(tuple(inputs), tuple(numbers), bool(arguments) and arguments[0] in numbers)


def _arguments(value: Any, known: Container[str]) -> Iterator[str | float]:
    """The names of the layers and the constants in a call, in the spellings of Keras 2 and 3."""
    if isinstance(value, dict) and value.get('class_name') == '__keras_tensor__':
        yield value['config']['keras_history'][0]
    elif isinstance(value, dict):
        for item in value.values():
            yield from _arguments(item, known)
    elif isinstance(value, list) and value and isinstance(value[0], str) and value[0] in known:
        yield value[0]  # [layer, node, tensor, keyword arguments]
        yield from _arguments(value[3:], known)
    elif isinstance(value, list):
        for item in value:
            yield from _arguments(item, known)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


def _strings(value: Any) -> Iterator[str]:
    """The layers' names in `output_layers`: ['name', 0, 0] or a list of these."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def numbered_names(model: dict[str, Any], path: str = '') -> dict[str, str]:
    """Where a .keras or .weights.h5 file keeps a layer -> the layer's name: 'layers/CLASS_N', numbered by class."""
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for layer in _layers(model['config']):
        kind = _snake_case(layer['class_name'])
        counts[kind] = counts.get(kind, -1) + 1
        key = f'{path}layers/{kind}_{counts[kind]}' if counts[kind] else f'{path}layers/{kind}'
        found |= numbered_names(layer, f'{key}/') if is_model(layer) else {key: _name(layer)}
    return found


def _snake_case(name: str) -> str:
    """As Keras does it: 'Conv2D' is conv2d, 'BatchNormalization' batch_normalization."""
    name = re.sub('(.)([A-Z][a-z]+)', r'\1_\2', re.sub(r'\W+', '', name))
    return re.sub('([a-z])([A-Z])', r'\1_\2', name).lower()
