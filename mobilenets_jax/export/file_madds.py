"""Multiply-adds of a TFLite file by the kind of operation, and operations that the latency models do not cover."""

import collections
import math
from typing import Any, NamedTuple

import numpy as np

from mobilenets_jax.export import flatbuffer

# Operations between the convolutions of a classifier that cost almost nothing, or are fused with them.
LIGHT = {
    *('ADD', 'AVERAGE_POOL_2D', 'HARD_SWISH', 'LOGISTIC', 'MEAN', 'MUL', 'PAD', 'RELU', 'RELU6', 'RESHAPE', 'SOFTMAX'),
    'SQUEEZE',
}
LARGEST_DEPTHWISE = 5  # height and width of a kernel in the fitted networks


class FileMadds(NamedTuple):
    """What a file costs.

    Attributes:
        by_kind: multiply-adds of one image, by the names of `search.operations`.
        unknown: what the networks whose latencies were fitted do not have, each once; () where there is nothing.
    """

    by_kind: dict[str, int]
    unknown: tuple[str, ...]


def file_madds(content: bytes) -> FileMadds:
    """Counts a TFLite file, float or quantized."""
    model = flatbuffer.unpack(content)
    tensors, operators = model.subgraphs[0].tensors, model.subgraphs[0].operators
    weighted = {operation.number: operation for operation in flatbuffer.weighted_operations(model)}
    counts: collections.Counter[str] = collections.Counter()
    unknown: dict[str, None] = {}
    for number, name in enumerate(flatbuffer.operation_names(model)):
        if number not in weighted:
            layer = name in flatbuffer.CHANNEL_AXIS
            unknown |= {} if name in LIGHT else {'computed weights' if layer else name: None}
            continue
        operation, operator = weighted[number], operators[number]
        shapes = [tuple(tensors[index].shape) for index in (operator.inputs[0], operator.outputs[0])]
        kind = _kind(operation, *shapes)
        unknown |= dict.fromkeys(_unknown(model, operation, kind, shapes[0], first='dense_kxk' not in counts))
        counts[kind] += _madds(operation, *shapes)
    return FileMadds(dict(counts), tuple(unknown))


def _kind(operation: flatbuffer.WeightedOperation, entrance: tuple[int, ...], end: tuple[int, ...]) -> str:
    if operation.name == 'DEPTHWISE_CONV_2D':
        return 'depthwise'
    if operation.name == 'FULLY_CONNECTED':
        return 'fully_connected'
    if tuple(operation.weights.shape[1:3]) != (1, 1):
        return 'dense_kxk'
    # Some write squeeze-excite and the last layers as convolutions of a map of one pixel, which are matrix products.
    return 'fully_connected' if entrance[1:3] == end[1:3] == (1, 1) else 'pointwise'


def _madds(operation: flatbuffer.WeightedOperation, entrance: tuple[int, ...], end: tuple[int, ...]) -> int:
    """Products of an image: each output sums those of one of its channel's weights, or of all inputs of a matrix."""
    weights = tuple(map(int, operation.weights.shape))
    if operation.name == 'FULLY_CONNECTED':
        return math.prod(map(int, entrance)) * weights[0]
    of_an_output = math.prod(weights[1:]) if operation.name == 'CONV_2D' else math.prod(weights[1:3])
    return math.prod(map(int, end)) * of_an_output


def _unknown(
    model: Any, operation: flatbuffer.WeightedOperation, kind: str, entrance: tuple[int, ...], first: bool
) -> list[str]:
    """What of a layer the fitted networks do not have."""
    found, dtype = [], flatbuffer.stored(model, operation.weights).dtype
    if dtype != np.float32:
        found.append(f'weights in {dtype.name}')
    if operation.name == 'CONV_2D' and operation.weights.shape[3] != entrance[3]:
        found.append('grouped convolutions')
    if kind == 'depthwise' and max(operation.weights.shape[1:3]) > LARGEST_DEPTHWISE:
        found.append(f'depthwise kernels above {LARGEST_DEPTHWISE}x{LARGEST_DEPTHWISE}')
    if kind == 'dense_kxk' and not first:
        found.append('large convolutions beyond the first layer')
    return found
