"""Writes MobileNetV1 0.25 as a TFLite file, operator by operator, so that a test can change any of them."""

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

CHANNELS = (8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256)  # of the stem and 13 pointwise convolutions
STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)  # of the stem and the 13 depthwise convolutions
_OPTIONS = {
    'CONV_2D': schema.Conv2DOptionsT,
    'DEPTHWISE_CONV_2D': schema.DepthwiseConv2DOptionsT,
    'FULLY_CONNECTED': schema.FullyConnectedOptionsT,
    'MEAN': schema.ReducerOptionsT,
    'SOFTMAX': schema.SoftmaxOptionsT,
    'PAD': schema.PadOptionsT,
    'DEQUANTIZE': schema.DequantizeOptionsT,
    'LOGISTIC': None,
    'REDUCE_MAX': schema.ReducerOptionsT,
    'MUL': schema.MulOptionsT,
    'SUB': schema.SubOptionsT,
    'CUSTOM': None,
}


class _Writer:
    def __init__(self):
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.subgraphs, self.model.metadata = 3, [self.graph], []
        self.model.buffers, self.model.operatorCodes = [schema.BufferT()], []
        self.graph.tensors, self.graph.operators = [], []
        self._codes = {}

    def tensor(self, shape, values=None, dtype='FLOAT32', quantization=None):
        tensor = schema.TensorT()
        tensor.shape, tensor.name = np.array(shape, np.int32), f'tensor{len(self.graph.tensors)}'
        tensor.type, tensor.buffer = getattr(schema.TensorType, dtype), 0
        if values is not None:
            tensor.buffer = self.buffer(np.ascontiguousarray(values).tobytes())
        if quantization is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.array([quantization[0]], np.float32)
            tensor.quantization.zeroPoint = np.array([quantization[1]], np.int64)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, values):
        return self.tensor(values.shape, values, {'f': 'FLOAT32', 'i': 'INT32'}[values.dtype.kind])

    def buffer(self, content):
        self.model.buffers.append(schema.BufferT())
        self.model.buffers[-1].data = np.frombuffer(content, np.uint8)
        return len(self.model.buffers) - 1

    def operator(self, name, inputs, shape, custom=None, **options):
        if name not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, name)
            code.deprecatedBuiltinCode, code.version, code.customCode = min(code.builtinCode, 127), 1, custom
            self._codes[name] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs = self._codes[name], np.array(inputs, np.int32)
        operator.outputs = np.array([self.tensor(shape)], np.int32)
        if _OPTIONS[name]:
            operator.builtinOptions = _OPTIONS[name]()
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, _OPTIONS[name].__name__.removesuffix('T'))
            for field, value in options.items():
                assert hasattr(operator.builtinOptions, field)
                setattr(operator.builtinOptions, field, value)
        self.graph.operators.append(operator)
        return operator.outputs[0]

    def write(self, path, inputs, outputs):
        self.graph.inputs, self.graph.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b'TFL3')
        path.write_bytes(bytes(builder.Output()))


def write_mobilenet_v1(
    path,
    *,
    image_size=64,
    channels=3,
    num_classes=5,
    activations=('RELU6',) * 27,
    strides=STRIDES,
    padding='SAME',
    explicit_pads=None,
    input_quantization=None,
    scales=(),
    front=None,
    pool='MEAN',
    end='SOFTMAX',
    custom=None,
    metadata=None,
):
    """Returns the kernels, HWIO and (in, out), in the order of the layers; every keyword changes the file.

    Args:
        path: of the file.
        image_size: height and width of its input.
        channels: of its input.
        num_classes: of its last layer.
        activations: fused into the 27 convolutions.
        strides: of the stem and the 13 depthwise convolutions.
        padding: of all convolutions.
        explicit_pads: before and behind each axis, by an operator PAD in front of every strided convolution.
        input_quantization: scale and zero point of an INT8 input.
        scales: operators in front with their constant, e.g. ('MUL', 2.0).
        front: another operator in front.
        pool: what stands before the last layer.
        end: what stands behind it, or None.
        custom: the name of an operator of the maker's own behind it.
        metadata: the content of TFLITE_METADATA.
    """
    writer, size, random = _Writer(), image_size, np.random.default_rng(0)
    kernels = []
    dtype = 'INT8' if input_quantization else 'FLOAT32'
    first = x = writer.tensor((1, size, size, channels), dtype=dtype, quantization=input_quantization)
    if input_quantization:
        x = writer.operator('DEQUANTIZE', [x], (1, size, size, channels))
    if front:
        x = writer.operator(front, [x], (1, size, size, channels))
    for name, value in scales:
        x = writer.operator(name, [x, writer.constant(np.float32(value))], (1, size, size, channels))
    for number, fused in enumerate(activations):
        depthwise = number % 2 == 1
        stride = strides[(number + 1) // 2] if depthwise or number == 0 else 1
        width = writer.graph.tensors[x].shape[3]
        shape = (3, 3, 1, width) if depthwise else (3, 3, 3, 8) if number == 0 else (1, 1, width, CHANNELS[number // 2])
        kernel = random.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape).astype(np.float32)
        kernels.append(kernel)
        kernel = kernel.transpose((2, 0, 1, 3) if depthwise else (3, 0, 1, 2))
        bias = random.normal(0, 0.1, shape[3]).astype(np.float32)
        mode = padding
        if explicit_pads and stride == 2:
            amounts = np.array([(0, 0), explicit_pads, explicit_pads, (0, 0)], np.int32)
            padded = size + sum(explicit_pads)
            x = writer.operator('PAD', [x, writer.constant(amounts)], (1, padded, padded, width))
            mode = 'VALID'
        size = -(-size // stride) if mode == 'SAME' or explicit_pads else (size - kernel.shape[1]) // stride + 1
        options = {'depthMultiplier': 1} if depthwise else {}
        x = writer.operator(
            'DEPTHWISE_CONV_2D' if depthwise else 'CONV_2D',
            [x, writer.constant(kernel), writer.constant(bias)],
            (1, size, size, kernel.shape[3] if depthwise else kernel.shape[0]),
            strideH=stride, strideW=stride, dilationHFactor=1, dilationWFactor=1,
            padding=getattr(schema.Padding, mode),
            fusedActivationFunction=getattr(schema.ActivationFunctionType, fused), **options,
        )  # fmt: skip
    x = writer.operator(pool, [x, writer.constant(np.array([1, 2], np.int32))], (1, 256), keepDims=False)
    kernels.append(random.normal(0, 0.1, (256, num_classes)).astype(np.float32))
    bias = random.normal(0, 0.1, num_classes).astype(np.float32)
    inputs = [x, writer.constant(kernels[-1].T), writer.constant(bias)]
    x = writer.operator('FULLY_CONNECTED', inputs, (1, num_classes))
    if end:
        x = writer.operator(end, [x], (1, num_classes), **({'beta': 1.0} if end == 'SOFTMAX' else {}))
    if custom:
        x = writer.operator('CUSTOM', [x], (1, num_classes), custom=custom)
    if metadata:
        entry = schema.MetadataT()
        entry.name, entry.buffer = 'TFLITE_METADATA', writer.buffer(metadata)
        writer.model.metadata = [entry]
    writer.write(path, [first], [x])
    return kernels
