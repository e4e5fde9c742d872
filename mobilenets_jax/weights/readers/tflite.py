"""Reads the weights of TFLite files, float or quantized; the batch norms are folded into them."""

import pathlib
from typing import Any

import numpy as np

from mobilenets_jax.weights.readers.contents import Contents
from mobilenets_jax.weights.readers.errors import UnreadableFileError

IDENTIFIER = b'TFL3'  # at byte 4
LAST = 'last'

# From TFLite's layout to ours: OHWI -> HWIO, 1HWC -> HW1C, (out, in) -> (in, out).
_WEIGHTED = {'CONV_2D': (1, 2, 3, 0), 'DEPTHWISE_CONV_2D': (1, 2, 0, 3), 'FULLY_CONNECTED': (1, 0)}


def read(path: pathlib.Path) -> Contents:
    """Kernels and biases in float32, in our layouts, by the order of execution: '000/kernel', ..., 'last/bias'."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    graph = model.subgraphs[0]
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    dtypes = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}

    def tensor(index: int) -> np.ndarray:
        return _array(graph.tensors[index], model.buffers, dtypes)

    layers = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        order = _WEIGHTED.get(names[max(code.builtinCode, code.deprecatedBuiltinCode)])
        if order is None:
            continue
        if len(operator.inputs) != 3:
            raise UnreadableFileError('a convolution has no bias')
        _, kernel, bias = operator.inputs
        layers.append((tensor(kernel).transpose(order), tensor(bias)))
    keys = [f'{number:03d}' for number in range(len(layers) - 1)] + [LAST]
    arrays = {
        f'{key}/{name}': array
        for key, layer in zip(keys, layers, strict=True)
        for name, array in zip(('kernel', 'bias'), layer, strict=True)
    }
    return Contents(arrays)


def _array(tensor: Any, buffers: list[Any], dtypes: dict[int, str]) -> np.ndarray:
    """A constant tensor in float32: scale * (stored - zero point), by channel or for the whole tensor."""
    content = buffers[tensor.buffer].data
    if content is None:
        raise UnreadableFileError('a weight is no constant')
    stored = np.frombuffer(np.asarray(content, np.uint8).tobytes(), np.dtype(dtypes[tensor.type].lower()))
    stored = stored.reshape(tensor.shape)
    scheme = tensor.quantization
    if scheme is None or scheme.scale is None:
        return stored.astype(np.float32)
    by_channel = [1] * stored.ndim
    by_channel[scheme.quantizedDimension] = -1
    scale, zero_point = (np.reshape(np.asarray(values), by_channel) for values in (scheme.scale, scheme.zeroPoint))
    return (scale * (stored.astype(np.float64) - zero_point)).astype(np.float32)
