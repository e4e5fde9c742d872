"""The graph of a TFLite file as this project needs it: its layers with weights, and the operators before and after.

Reference: tensorflow/lite/schema/schema.fbs of TensorFlow 2.21; a quantized value is scale * (stored - zero point).
"""

import dataclasses
import math
from typing import Any

import numpy as np

from mobilenets_jax.weights.readers import tflite_metadata
from mobilenets_jax.weights.readers.errors import MAX_TEXT_BYTES, UnreadableFileError, check_bytes
from mobilenets_jax.weights.readers.tflite_detection import OPERATOR, DetectionEnd, read_end

WEIGHTED = ('CONV_2D', 'DEPTHWISE_CONV_2D', 'FULLY_CONNECTED')
# Operators that change how numbers are stored, not the numbers.
STORAGE = ('QUANTIZE', 'DEQUANTIZE', 'CAST', 'FAKE_QUANT')
_ACTIVATIONS = {
    **{'NONE': 'linear', 'RELU': 'relu', 'RELU6': 'relu6'},
    **{'HARD_SWISH': 'hard_swish', 'LOGISTIC': 'sigmoid'},
}
_SHAPES = ('RESHAPE', 'SQUEEZE')
# What may follow the logits.
_ENDS = ('SOFTMAX', 'LOGISTIC', 'LOG_SOFTMAX')
_RESIZE = 'RESIZE_BILINEAR'
_CLASSES = 'ARG_MAX'  # of a map of logits
_POOLS = ('AVERAGE_POOL_2D', 'MEAN')
_PAD = ('PAD', 'PADV2', 'MIRROR_PAD')
_SCALES = ('MUL', 'DIV', 'ADD', 'SUB')
MAX_PARTS = 50_000  # operators, tensors and buffers; a mobile network has some hundreds


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphLayer:
    """An operator with weights.

    Attributes:
        name: 'CONV_2D', 'DEPTHWISE_CONV_2D' or 'FULLY_CONNECTED'.
        operator: its index in the graph.
        kernel: float32, as TFLite lays it out: OHWI, 1HWC or (out, in).
        bias: float32, [out]; of a layer with a hard sigmoid, which adds 3, without that.
        strides: down and across, in pixels.
        dilations: down and across, in pixels.
        pads: rows above and below, columns left and right, that are added to its input.
        input_size: height and width of the map that it convolves, before any padding.
        activation: as in `ops.ACTIVATIONS` where that has it, fused or by the one operator that reads the outputs; None
            where more than an operator follows, or the range of a quantized output may mean an activation.
        low: the least value that a quantized output can have; None of a float output.
    """

    name: str
    operator: int
    kernel: np.ndarray
    bias: np.ndarray
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    input_size: tuple[int, int] = (1, 1)
    activation: str | None = None
    low: float | None = None


class Graph:
    """The graph of a classifier (one image in, one vector out), of a segmentation network (a map out) or of an SSD.

    Attributes:
        layers: in the order of execution; if one of two branches that read the same map pools it, that branch first,
            since their order means nothing.
        task: 'detection' with an SSD's end; else 'classification' or 'segmentation', by the shape of the logits.
        detection: the end of an SSD; None of other networks.
        align_corners: of a segmentation network, whether its resizes align the corners.
        image_size: height and width of the input in pixels; None where the graph takes any.
        scale, offset: of the first operation of the graph on its input: scale * input + offset, [] or [3].
        fed: low and high end of the input for pixels 0 and 255, float64 [] or [3], by the input's quantization or the
            file's metadata; None where neither says it.
        operators: all operators' names in the order of execution.
        outputs: the tensors that are compared with ours: the output of the last layer, or of a resize after it, in
            front of a softmax; of an SSD codes and logits.
        model, subgraph, names: the file's own objects, and the names for their numbers.
    """

    def __init__(self, model: Any, names: '_Names'):
        """Reads a `ModelT`; raises `UnreadableFileError` that names the part that is not of an image classifier."""
        self.model, self.names = model, names
        self.subgraph = model.subgraphs[0]
        self.operators = tuple(names.operator(model, operator) for operator in self.subgraph.operators)
        self._check_operators()
        self._same = self._storage_aliases()
        self._readers: dict[int, list[int]] = {}
        for number, operator in enumerate(self.subgraph.operators):
            for index in operator.inputs:
                self._readers.setdefault(self.source(index), []).append(number)
        self.image_size, self.fed = self._input()
        self.scale, self.offset = np.float64(1), np.float64(0)
        self._read_scales()
        self._check_weights()
        self.layers = tuple(self._pooled_first(list(self._layers())))
        if not self.layers:
            raise UnreadableFileError(f'it has no convolution, but {", ".join(sorted(set(self.operators)))}')
        self.detection: DetectionEnd | None = None
        if self.operators[-1] == OPERATOR:
            self.detection = read_end(self)
            self.outputs, self.task = (self.detection.codes, self.detection.logits), 'detection'
        else:
            self.outputs = (self._find_logits(),)
            shape = self.subgraph.tensors[self.outputs[0]].shape
            self.task = 'classification' if np.prod(shape) == shape[-1] else 'segmentation'
        self.align_corners = self._align_corners()

    def _check_operators(self) -> None:
        is_detector = self.operators[-1:] == (OPERATOR,)
        before = self.operators[:-1] if is_detector else self.operators
        custom = next((name for name in before if name.startswith('CUSTOM')), None)
        if custom is not None and 'edgetpu' in custom:
            raise UnreadableFileError('it is compiled for the Edge TPU; the file that it was compiled from is needed')
        if custom is not None:
            raise UnreadableFileError(f'it has the operator {custom}; no network here has such a one')
        for inputs, what in ((self.subgraph.inputs, 'inputs'), (self.subgraph.outputs, 'outputs')):
            if len(inputs) != 1 and not (is_detector and what == 'outputs'):
                raise UnreadableFileError(f'it has {len(inputs)} {what}, where a classifier of images has one')

    def _storage_aliases(self) -> dict[int, int]:
        """Tensor -> the tensor whose numbers it holds, stored in another way."""
        pairs = zip(self.operators, self.subgraph.operators, strict=True)
        return {operator.outputs[0]: operator.inputs[0] for name, operator in pairs if name in STORAGE}

    def source(self, index: int) -> int:
        """The tensor that first holds the numbers of tensor `index`."""
        while index in self._same:
            index = self._same[index]
        return index

    def _input(self) -> tuple[int | None, tuple[np.ndarray, np.ndarray] | None]:
        tensor = self.subgraph.tensors[self.subgraph.inputs[0]]
        shape = [int(size) for size in tensor.shape] if tensor.shape is not None else []
        if len(shape) != 4 or shape[1] != shape[2]:
            raise UnreadableFileError(f'its input has the shape {shape}, where square images [1, H, W, 3] are taken')
        if shape[3] != 3:
            colours = 'grey images' if shape[3] == 1 else f'images of {shape[3]} channels'
            raise UnreadableFileError(f'it takes {colours}; the networks here take RGB')
        return (shape[1] if shape[1] > 1 else None), self._fed(tensor)

    def _fed(self, tensor: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """What the input is for pixels 0 and 255."""
        scheme, dtype = tensor.quantization, self.names.dtypes[tensor.type]
        if scheme is not None and scheme.scale is not None:
            lowest = -128 if dtype == 'INT8' else 0
            scale, zero = np.float64(scheme.scale[0]), int(scheme.zeroPoint[0])
            return scale * (lowest - zero), scale * (lowest + 255 - zero)
        if dtype == 'UINT8':
            return np.float64(0), np.float64(255)
        for entry in self.model.metadata or ():
            if entry.name == tflite_metadata.NAME:
                stated = tflite_metadata.normalization(bytes(self.model.buffers[entry.buffer].data))
                if stated is not None:
                    mean, std = (np.squeeze(values.astype(np.float64)) for values in stated)
                    return (0 - mean) / std, (255 - mean) / std
        return None

    def _read_scales(self) -> None:
        """Follows the input through the operators that scale it, up to the first layer or padding."""
        current = self.subgraph.inputs[0]
        while True:
            readers = [number for number in self._readers[current] if self.operators[number] not in STORAGE]
            name = self.operators[readers[0]]
            if len(readers) != 1 or name not in (*_SCALES, *WEIGHTED, *_PAD):
                raise UnreadableFileError(f'it begins with the operator {name}, where a convolution is expected')
            if name not in _SCALES:
                return
            operator = self.subgraph.operators[readers[0]]
            self._apply_scale(name, operator, current)
            current = operator.outputs[0]

    def _apply_scale(self, name: str, operator: Any, current: int) -> None:
        one, other = map(self.source, operator.inputs)
        values = self.constant(other if one == current else one)
        if values is None or values.size not in (1, 3) or (one != current and name in ('SUB', 'DIV')):
            raise UnreadableFileError(f'it begins with the operator {name}, which does not scale the input')
        values = values.astype(np.float64).reshape(-1) if values.size == 3 else values.astype(np.float64).reshape(())
        if name in ('MUL', 'DIV'):
            factor = values if name == 'MUL' else 1 / values
            self.scale, self.offset = self.scale * factor, self.offset * factor
        else:
            self.offset = self.offset + (values if name == 'ADD' else -values)

    def _check_weights(self) -> None:
        """Raises `UnreadableFileError` where the weights are too many in float32: layers may share one buffer."""
        pairs = zip(self.operators, self.subgraph.operators, strict=True)
        kernels = [self.subgraph.tensors[self.source(op.inputs[1])] for name, op in pairs if name in WEIGHTED]
        check_bytes('its weights have', sum(4 * math.prod(map(int, kernel.shape)) for kernel in kernels))

    def _layers(self):
        for number, (name, operator) in enumerate(zip(self.operators, self.subgraph.operators, strict=True)):
            if name in WEIGHTED:
                yield self._layer(number, name, operator)

    def _layer(self, number: int, name: str, operator: Any) -> GraphLayer:
        kernel = self.constant(self.source(operator.inputs[1]))
        if kernel is None:
            raise UnreadableFileError(f'{name} number {number} has weights that are no constant')
        has_bias = len(operator.inputs) > 2 and operator.inputs[2] >= 0
        channels = kernel.shape[3] if name == 'DEPTHWISE_CONV_2D' else kernel.shape[0]
        bias = self.constant(self.source(operator.inputs[2])) if has_bias else np.zeros(channels, np.float32)
        if self._is_hard_sigmoid(operator):
            bias = bias - 3
        fields = {'operator': number, 'kernel': kernel, 'bias': bias, **self._activation(operator)}
        if name == 'FULLY_CONNECTED':
            return GraphLayer(name=name, **fields)
        options = operator.builtinOptions
        source, pads = self._padded_input(operator.inputs[0])
        size = tuple(int(side) for side in self.subgraph.tensors[source].shape[1:3])
        strides = options.strideH, options.strideW
        dilations = options.dilationHFactor, options.dilationWFactor
        if options.padding == self.names.padding_same:
            geometry = zip(size, kernel.shape[1:3], strides, dilations, strict=True)
            pads = tuple(same_pads(*axis) for axis in geometry)
        return GraphLayer(name=name, strides=strides, dilations=dilations, pads=pads, input_size=size, **fields)

    def _padded_input(self, index: int) -> tuple[int, tuple[tuple[int, int], tuple[int, int]]]:
        """The tensor that is padded to give `index`, and by how much; `index` itself and nothing if none is."""
        index = self.source(index)
        for name, operator in zip(self.operators, self.subgraph.operators, strict=True):
            if name in _PAD and operator.outputs[0] == index:
                amounts = self.constant(self.source(operator.inputs[1])).astype(int)
                return self.source(operator.inputs[0]), tuple(map(tuple, amounts[1:3].tolist()))
        return index, ((0, 0), (0, 0))

    def _activation(self, operator: Any) -> dict[str, Any]:
        """The fields of `GraphLayer` about what follows the layer."""
        low = self.lowest(self.subgraph.tensors[operator.outputs[0]])
        fused = self.names.activations[operator.builtinOptions.fusedActivationFunction]
        if fused != 'NONE':
            return {'activation': _ACTIVATIONS.get(fused, fused.lower()), 'low': low}
        readers = [self.operators[number] for number in self._readers.get(operator.outputs[0], ())]
        readers = [name for name in readers if name not in STORAGE]
        if len(readers) == 1 and readers[0] in ('RELU', 'RELU6', 'HARD_SWISH'):
            return {'activation': _ACTIVATIONS[readers[0]], 'low': low}
        several = any(name in ('ADD', 'MUL', 'LOGISTIC', 'DIV') for name in readers)  # perhaps parts of one
        return {'activation': 'linear' if low is None and not several else None, 'low': low}

    def _pooled_first(self, layers: list[GraphLayer]) -> list[GraphLayer]:
        """`layers`, but a layer that reads a pooled map in front of the layer before it that reads the map itself."""
        inputs = [self.source(self.subgraph.operators[layer.operator].inputs[0]) for layer in layers]
        for i in range(1, len(layers)):
            pools = [number for number in self._readers.get(inputs[i - 1], ()) if self.operators[number] in _POOLS]
            if inputs[i] in [self.source(self.subgraph.operators[number].outputs[0]) for number in pools]:
                layers[i - 1], layers[i] = layers[i], layers[i - 1]
        return layers

    def _align_corners(self) -> bool:
        """Whether the resizes align the corners, all in the same way."""
        pairs = zip(self.operators, self.subgraph.operators, strict=True)
        options = [operator.builtinOptions for name, operator in pairs if name == _RESIZE]
        found = {(bool(option.alignCorners), bool(option.halfPixelCenters)) for option in options}
        if not found <= {(True, False), (False, True)} or len(found) > 1:
            raise UnreadableFileError(
                'its resizes have corners that are neither aligned nor half pixels, or are of both kinds'
            )
        return (True, False) in found

    def _is_hard_sigmoid(self, operator: Any) -> bool:
        """Whether min(max(x + 3, 0), 6) / 6 follows, whose 3 the converter has put into the layer's bias."""
        fused = self.names.activations[operator.builtinOptions.fusedActivationFunction]
        readers = self._readers.get(operator.outputs[0], ())
        if fused != 'RELU6' or len(readers) != 1 or self.operators[readers[0]] != 'MUL':
            return False
        factors = map(self.constant, map(self.source, self.subgraph.operators[readers[0]].inputs))
        return any(factor is not None and np.allclose(factor, 1 / 6, atol=0.01) for factor in factors)

    def _find_logits(self) -> int:
        """The tensor that the last layer gives, in front of a softmax."""
        last = self.layers[-1].operator
        tensor = self.subgraph.operators[last].outputs[0]
        for number in range(last + 1, len(self.operators)):
            operator, name = self.subgraph.operators[number], self.operators[number]
            reads = tensor in map(self.source, operator.inputs)
            if name in (*_SHAPES, _RESIZE) and reads:
                tensor = operator.outputs[0]
            elif name in _ENDS and reads:
                self._check_end(name, tensor)
            elif reads and name not in (*STORAGE, 'SHAPE', _CLASSES):
                raise UnreadableFileError(f'it does not end with a classifier: behind its last layer it has {name}')
        shape = self.subgraph.tensors[tensor].shape
        is_map = len(shape) == 4 and _RESIZE in self.operators[last:] and tuple(shape[1:3]) == (self.image_size,) * 2
        if np.prod(shape) != shape[-1] and not is_map:
            raise UnreadableFileError(f'it does not end with a classifier, but with a map {list(map(int, shape))}')
        return tensor

    def _check_end(self, name: str, tensor: int) -> None:
        classes = int(np.prod(self.subgraph.tensors[tensor].shape))
        if name == 'LOGISTIC' and classes > 1:
            raise UnreadableFileError(f'it ends with LOGISTIC: its {classes} classes do not exclude each other')

    def constant(self, index: int) -> np.ndarray | None:
        """A constant tensor; in float32 if it is quantized, by channel or as a whole, or of half precision."""
        tensor = self.subgraph.tensors[index]
        content = self.model.buffers[tensor.buffer].data
        if content is None or len(content) == 0:
            return None
        shape = [] if tensor.shape is None else tensor.shape
        check_bytes('a constant has', 8 * math.prod(map(int, shape)))  # as it is computed, in float64
        dtype = np.dtype(self.names.dtypes[tensor.type].lower())
        stored = np.frombuffer(np.asarray(content, np.uint8).tobytes(), dtype).reshape(shape)
        scheme = tensor.quantization
        if scheme is None or scheme.scale is None:
            return stored.astype(np.float32) if dtype.kind == 'f' else stored
        by_channel = [1] * stored.ndim
        if stored.ndim:
            by_channel[scheme.quantizedDimension] = -1
        scale, zero_point = (np.reshape(np.asarray(values), by_channel) for values in (scheme.scale, scheme.zeroPoint))
        return (scale * (stored.astype(np.float64) - zero_point)).astype(np.float32)

    def lowest(self, tensor: Any) -> float | None:
        """The least value that a quantized tensor can have; None of any other."""
        scheme = tensor.quantization
        if scheme is None or scheme.scale is None:
            return None
        lowest = {'INT8': -128, 'INT16': -32768}.get(self.names.dtypes[tensor.type], 0)
        return float(scheme.scale[0]) * (lowest - int(scheme.zeroPoint[0]))


def same_pads(size: int, kernel_size: int, stride: int, dilation: int) -> tuple[int, int]:
    """The pixels that TensorFlow's padding 'same' adds before and after an axis of `size` pixels."""
    extent = dilation * (kernel_size - 1) + 1
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


def load(content: bytes) -> Graph:
    """The graph in the bytes of a TFLite file."""
    from tensorflow.lite.python import schema_py_generated as schema

    packed = schema.Model.GetRootAsModel(content, 0)
    _check_counts(packed)
    model = schema.ModelT.InitFromObj(packed)
    return Graph(model, _Names.of(schema))


def _check_counts(model: Any) -> None:
    """Raises `UnreadableFileError` where a file has more than a network's parts.

    The parts of a flatbuffer are places in the file, and a million of them may be one place: what is unpacked has any
    size then, whatever that of the file.
    """
    parts = model.BuffersLength() + model.OperatorCodesLength() + model.MetadataLength() + model.SignatureDefsLength()
    for number in range(min(model.SubgraphsLength(), MAX_PARTS)):
        subgraph = model.Subgraphs(number)
        parts += 1 + subgraph.TensorsLength() + subgraph.OperatorsLength()
        if parts > MAX_PARTS:
            break
        names = sum(len(subgraph.Tensors(index).Name() or b'') for index in range(subgraph.TensorsLength()))
        check_bytes('the names of its tensors have', names, MAX_TEXT_BYTES)
    if parts > MAX_PARTS:
        raise UnreadableFileError(f'it has more than {MAX_PARTS} tensors, operators and buffers')


@dataclasses.dataclass(frozen=True)
class _Names:
    """The names for the numbers in TFLite's schema."""

    operators: dict[int, str]
    dtypes: dict[int, str]
    activations: dict[int, str]
    padding_same: int

    @classmethod
    def of(cls, schema: Any) -> '_Names':
        def names(enumeration: type) -> dict[int, str]:
            return {code: name for name, code in vars(enumeration).items() if isinstance(code, int)}

        enumerations = schema.BuiltinOperator, schema.TensorType, schema.ActivationFunctionType
        return cls(*map(names, enumerations), schema.Padding.SAME)

    def operator(self, model: Any, operator: Any) -> str:
        """An operator's name; 'CUSTOM ...' with its own name for one that TFLite does not have."""
        code = model.operatorCodes[operator.opcodeIndex]
        name = self.operators[max(code.builtinCode, code.deprecatedBuiltinCode)]
        return f'CUSTOM {code.customCode.decode()}' if name == 'CUSTOM' else name
