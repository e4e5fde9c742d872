"""TFLite files as objects that can be read and changed: their operations, weights and biases.

Reference: tensorflow/lite/schema/schema.fbs, as LiteRT has it; a quantized value is scale * (stored - zero point).
"""

import collections
from collections.abc import Iterator
from typing import Any, NamedTuple

import flatbuffers
import numpy as np

from mobilenets_jax.errors import needed

# Operation -> the axis of its weights that counts the output channels.
CHANNEL_AXIS = {'CONV_2D': 0, 'DEPTHWISE_CONV_2D': 3, 'FULLY_CONNECTED': 0}
IDENTIFIER = b'TFL3'
ALIGNMENT = 16  # bytes; of constants, which runtimes use in place


class WeightedOperation(NamedTuple):
    """An operation with weights.

    Attributes:
        number: among the operations of the graph.
        name: a key of `CHANNEL_AXIS`.
        weights: its tensor of weights.
        bias: its tensor of biases; None where it has none.
    """

    number: int
    name: str
    weights: Any
    bias: Any | None


def schema() -> Any:
    """The classes of the file format."""
    return needed('ai_edge_litert.schema_py_generated')


class _Builder(flatbuffers.Builder):
    """Aligns all vectors as the schema asks of constants; the classes of the file format do not."""

    def StartVector(self, elemSize, numElems, alignment):  # noqa: N802 - flatbuffers' own name
        return super().StartVector(elemSize, numElems, max(alignment, ALIGNMENT))


def unpack(content: bytes) -> Any:
    """The bytes of a file as a `ModelT` that holds all constants, also those stored after it in the file."""
    model = schema().ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.data is None and buffer.size:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def pack(model: Any) -> bytes:
    """A `ModelT` as the bytes of a file."""
    builder = _Builder(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def operation_names(model: Any) -> list[str]:
    """The operations of the graph in the order of execution."""
    names = {code: name for name, code in vars(schema().BuiltinOperator).items() if isinstance(code, int)}
    codes = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    return [codes[operation.opcodeIndex] for operation in model.subgraphs[0].operators]


def operation_counts(content: bytes) -> dict[str, int]:
    """How many operations of each name a file has, the most frequent first and those of one count by name."""
    counts = collections.Counter(operation_names(unpack(content)))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def weighted_operations(model: Any) -> Iterator[WeightedOperation]:
    """The operations with constant weights, in the order of execution."""
    graph = model.subgraphs[0]
    for number, name in enumerate(operation_names(model)):
        if name in CHANNEL_AXIS:
            inputs = graph.operators[number].inputs
            weights = graph.tensors[inputs[1]]
            bias = graph.tensors[inputs[2]] if len(inputs) > 2 and inputs[2] >= 0 else None
            if stored(model, weights) is not None:
                yield WeightedOperation(number, name, weights, bias)


def stored(model: Any, tensor: Any) -> np.ndarray | None:
    """A constant tensor as it is stored; None for one that is computed."""
    content = model.buffers[tensor.buffer].data
    if content is None or len(content) == 0:
        return None
    types = {code: name for name, code in vars(schema().TensorType).items() if isinstance(code, int)}
    dtype = np.dtype(types[tensor.type].lower())
    return np.frombuffer(np.asarray(content, np.uint8).tobytes(), dtype).reshape(tensor.shape)


def values(model: Any, tensor: Any) -> np.ndarray:
    """The values of a constant tensor, dequantized, float64."""
    numbers, scheme = stored(model, tensor).astype(np.float64), tensor.quantization
    if scheme is None or scheme.scale is None:
        return numbers
    by_channel = [1] * numbers.ndim
    by_channel[scheme.quantizedDimension] = -1
    return np.reshape(scheme.scale, by_channel) * (numbers - np.reshape(scheme.zeroPoint, by_channel))
