"""Whether a network of ours computes the same as a TFLite graph, and the fields with which it does.

Shapes of weights do not tell strides, padding and activations. So every layer of the graph is compared with ours, what
our networks can be told (ReLU or ReLU6, padding, strides) is set as the graph has it, and in the end both
compute the logits of the same inputs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mobilenets_jax.models.specs import PADDINGS, RECTIFIERS
from mobilenets_jax.ops import fuse
from mobilenets_jax.weights.network import Layer, trace
from mobilenets_jax.weights.readers.tflite_graph import Graph, GraphLayer, same_pads
from mobilenets_jax.weights.readers.tflite_twin import FloatTwin

# Task -> the fields that decide about strides.
_STRIDES = {
    'classification': [{}, {'num_removed_strides': 1}, {'num_removed_strides': 2}],
    'segmentation': [{'output_stride': stride} for stride in (16, 8, 32)],
    'detection': [{}],
}
# The inputs that are compared: noise of these amplitudes. Large ones meet the upper end of every ReLU6.
AMPLITUDES = (1.0, 10.0, 100.0)
TOLERANCE = 0.01  # of the difference between the logits of two such inputs
ROUNDING = 1e-4  # of the largest logit
ANCHOR_TOLERANCE = 2e-4  # of the image; some files have anchors of the ratio 1/3 where others have 0.3333
DEFAULT_IMAGE_SIZE = 96  # of a graph that takes any


class DifferentNetworkError(ValueError):
    """The graph is another network; the message names the first operator that differs."""


def settle(graph: Graph, name: str, create: Callable[..., nn.Module]) -> dict[str, Any]:
    """The fields of `create` by which our network has the graph's layers.

    Args:
        graph: of the file.
        name: of the architecture.
        create: our network with such fields.

    Raises:
        DifferentNetworkError: there are none.
    """

    def layers(**fields) -> list[tuple[GraphLayer, Layer]]:
        network = trace(name, create(**fields))
        ours = [layer for layer in network.layers if layer.kind != 'norm']
        return list(zip(graph.layers, ours, strict=True))

    fields = _strides(layers, _STRIDES[graph.task])
    pairs = layers(**fields)
    for theirs, ours in pairs:
        _agree(theirs, 'dilation', theirs.dilations, (ours.dilation,) * 2)
    padding = _padding(pairs)
    own = create().settings.padding
    fields |= {'padding': padding} if padding not in (None, own) else {}
    activation = _rectifier(pairs)
    return fields | ({'activation': activation} if activation else {})


def _agree(layer: GraphLayer, what: str, theirs: Any, ours: Any) -> None:
    if theirs != ours:
        raise DifferentNetworkError(
            f'{layer.name} (operator {layer.operator}) has {what} {_text(theirs)} where the network has {_text(ours)}'
        )


def _text(value: Any) -> str:
    if isinstance(value, tuple) and all(isinstance(size, int) for size in value):
        return str(value[0]) if len(set(value)) == 1 else 'x'.join(map(str, value))
    return str(value)


def _strides(layers, choices: Sequence[dict[str, int]]) -> dict[str, int]:
    for fields in choices:
        if all(theirs.strides == (ours.stride,) * 2 for theirs, ours in layers(**fields)):
            return dict(fields)
    for theirs, ours in layers(**choices[0]):
        _agree(theirs, 'stride', theirs.strides, (ours.stride,) * 2)
    raise AssertionError('some stride differs')


def _padding(pairs: list[tuple[GraphLayer, Layer]]) -> str | None:
    """The rule by which all layers are padded; None where both give the same."""

    def expected(rule: str, theirs: GraphLayer, ours: Layer) -> tuple[tuple[int, int], ...]:
        if ours.kind == 'dense':
            return theirs.pads
        size = theirs.kernel.shape[1]
        if rule == 'same':
            return tuple(same_pads(side, size, ours.stride, ours.dilation) for side in theirs.input_size)
        return ((ours.dilation * (size - 1) // 2,) * 2,) * 2

    fitting = [rule for rule in PADDINGS if all(theirs.pads == expected(rule, theirs, ours) for theirs, ours in pairs)]
    if not fitting:
        for theirs, ours in pairs:
            _agree(theirs, 'padding', theirs.pads, expected(PADDINGS[0], theirs, ours))
    return None if len(fitting) == len(PADDINGS) else fitting[0]


def _rectifier(pairs: list[tuple[GraphLayer, Layer]]) -> str | None:
    """The activation in place of our ReLU and ReLU6; None if ours are right."""
    normed = [(theirs, ours) for theirs, ours in pairs if ours.activation is not None]
    found = {
        theirs.activation
        for theirs, ours in normed
        if ours.activation in RECTIFIERS and theirs.activation in RECTIFIERS
    }
    expected = {ours.activation for _, ours in normed if ours.activation in RECTIFIERS}
    chosen = found.pop() if len(found) == 1 and len(expected) == 1 else None
    for theirs, ours in normed:
        wanted = chosen if chosen and ours.activation in RECTIFIERS else ours.activation
        if theirs.activation is not None:
            _agree(theirs, 'the activation', theirs.activation, wanted)
        elif wanted in RECTIFIERS and theirs.low != 0:
            _agree(theirs, 'the activation', 'none, or parts of another,', wanted)
    return chosen if expected - {chosen} and chosen else None


def check_outputs(graph: Graph, model: nn.Module, variables: Any, network_layers: tuple[Layer, ...]) -> None:
    """Raises `DifferentNetworkError` unless `model` and the graph compute the same logits, to rounding.

    Args:
        graph: of the file.
        model: ours, with all fields that `settle` has found.
        variables: its 'params' and 'batch_stats', from the file.
        network_layers: of `model`, as `trace` gives them.
    """
    shape = (len(AMPLITUDES), 2, 1, *(graph.image_size or DEFAULT_IMAGE_SIZE,) * 2, 3)
    images = np.random.default_rng(0).uniform(-1, 1, shape) * np.reshape(AMPLITUDES, (-1, 1, 1, 1, 1, 1))
    images = images.astype(np.float32)
    twin = FloatTwin(graph, _by_range(graph, network_layers))
    apply = jax.jit(fuse(lambda variables, images: model.apply(variables, images, train=False)[0]))
    for pair in images:
        theirs = [np.stack(outputs) for outputs in zip(*map(twin, pair), strict=True)]
        scaled = pair * np.float32(graph.scale) + np.float32(graph.offset)
        ours = [
            np.stack(outputs) for outputs in zip(*(jax.tree.leaves(apply(variables, x)) for x in scaled), strict=True)
        ]
        for one, other in zip(ours, theirs, strict=True):
            difference, spread = np.abs(one - other).max(), np.ptp(other, axis=0).max()
            if not difference <= TOLERANCE * spread + ROUNDING * np.abs(other).max():
                others = sorted(set(graph.operators) - {layer.name for layer in graph.layers})
                raise DifferentNetworkError(
                    f'with the same weights its logits, up to {np.abs(other).max():.3g}, differ by {difference:.3g}; '
                    f'its operators without weights are {", ".join(others)}'
                )
    if graph.detection is not None:
        _check_anchors(graph, model)


def _check_anchors(graph: Graph, model: nn.Module) -> None:
    """Raises `DifferentNetworkError` unless the graph's anchors are those of the model."""
    ours, theirs = model.anchors((graph.image_size, graph.image_size)), graph.detection.anchors
    difference = np.abs(ours - theirs).max() if len(ours) == len(theirs) else np.inf
    if not difference <= graph.detection.tolerance + ANCHOR_TOLERANCE:
        raise DifferentNetworkError(
            f'its {len(theirs)} anchors are not those of the network, which has {len(ours)}; the largest difference is '
            f'{difference:.3g} of the image'
        )


def _by_range(graph: Graph, network_layers: tuple[Layer, ...]) -> dict[int, str]:
    """Operator -> activation, where a quantized output that cannot be negative means it."""
    ours = [layer for layer in network_layers if layer.kind != 'norm']
    found = {}
    for theirs, layer in zip(graph.layers, ours, strict=True):
        activation = 'relu' if layer.path.endswith('/reduce') else layer.activation
        if theirs.activation is None and theirs.low == 0 and activation in RECTIFIERS:
            found[theirs.operator] = activation
    return found
