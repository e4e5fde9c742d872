"""The float twin of a TFLite graph: the same graph with every quantized tensor in float32, run by LiteRT.

So what each operator computes is LiteRT's word. Whoever wants to know whether a network of ours is that of the file
compares the two.
"""

import copy
import warnings
from typing import Any

import flatbuffers
import numpy as np

from mobilenets_jax.weights.readers.tflite_detection import OPERATOR
from mobilenets_jax.weights.readers.tflite_graph import STORAGE, Graph

CLIP_TOLERANCE = 0.1  # of the upper end of a quantized range that means ReLU6
_INTEGER_STEPS = 255  # from one end of a quantized range to the other


class FloatTwin:
    """A network that LiteRT computes in float32.

    Args:
        graph: of the file.
        activations: operator -> 'relu' or 'relu6', where the range of a quantized output means one.
    """

    def __init__(self, graph: Graph, activations: dict[int, str]):
        self._interpreter = _interpreter(_float_content(graph, _clipped_sums(graph) | activations))
        self._interpreter.allocate_tensors()

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """What `graph.outputs` are for float32 [1, H, W, 3], as the graph takes them: float32 [1, classes] or maps."""
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]['index'], images)
        self._interpreter.invoke()
        details = self._interpreter.get_output_details()
        outputs = [self._interpreter.get_tensor(output['index']) for output in details]
        return [output.reshape(1, -1) if output.size == output.shape[-1] else output for output in outputs]


def _interpreter(content: bytes) -> Any:
    """LiteRT's interpreter, of its own package or as TensorFlow still has it; without delegates it prints nothing."""
    try:
        from ai_edge_litert import interpreter as litert
    except ModuleNotFoundError:
        from tensorflow.lite.python import interpreter as litert

    quiet = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that TensorFlow's moves to that package
        return litert.Interpreter(model_content=content, experimental_op_resolver_type=quiet)


def _clipped_sums(graph: Graph) -> dict[int, str]:
    """The sums whose quantized outputs are in [0, 6]: the ReLU6 of a hard sigmoid."""
    found = {}
    for number, (name, operator) in enumerate(zip(graph.operators, graph.subgraph.operators, strict=True)):
        output = graph.subgraph.tensors[operator.outputs[0]]
        if name == 'ADD' and graph.lowest(output) == 0:
            highest = _INTEGER_STEPS * float(output.quantization.scale[0])
            if abs(highest - 6) < CLIP_TOLERANCE:
                found[number] = 'relu6'
    return found


def _float_content(graph: Graph, activations: dict[int, str]) -> bytes:
    """The bytes of a TFLite file with the twin."""
    from tensorflow.lite.python import schema_py_generated as schema

    model, twin = schema.ModelT(), schema.SubGraphT()
    model.version, model.operatorCodes = graph.model.version, graph.model.operatorCodes
    model.subgraphs, model.buffers = [twin], list(graph.model.buffers)
    twin.tensors = [_float_tensor(graph, index, model.buffers) for index in range(len(graph.subgraph.tensors))]
    twin.operators = [
        _float_operator(graph, number, activations.get(number))
        for number, name in enumerate(graph.operators)
        if name not in (*STORAGE, OPERATOR)
    ]
    twin.inputs, twin.outputs = graph.subgraph.inputs, np.array(graph.outputs, np.int32)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b'TFL3')
    return bytes(builder.Output())


def _float_tensor(graph: Graph, index: int, buffers: list[Any]) -> Any:
    """A tensor in float32 if it holds quantized or half-precision numbers; a constant's go to a new buffer."""
    from tensorflow.lite.python import schema_py_generated as schema

    tensor = copy.copy(graph.subgraph.tensors[index])
    if graph.lowest(tensor) is None and graph.names.dtypes[tensor.type] not in ('FLOAT16', 'UINT8', 'INT8'):
        return tensor
    values = graph.constant(index)
    tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
    if values is not None:
        tensor.buffer = len(buffers)
        buffers.append(schema.BufferT())
        buffers[-1].data = np.frombuffer(values.astype('<f4').tobytes(), np.uint8)
    return tensor


def _float_operator(graph: Graph, number: int, activation: str | None) -> Any:
    """An operator that reads the original tensors instead of those that only store them in another way."""
    operator = copy.copy(graph.subgraph.operators[number])
    operator.inputs = np.array([graph.source(i) if i >= 0 else i for i in operator.inputs], np.int32)
    if activation is not None:
        codes = {name: code for code, name in graph.names.activations.items()}
        operator.builtinOptions = copy.copy(operator.builtinOptions)
        operator.builtinOptions.fusedActivationFunction = codes[activation.upper()]
    return operator
