"""A TFLite file is taken for a network of ours only if its graph computes what ours computes."""

import flatbuffers
import numpy as np
import pytest

from mobilenets_jax.errors import UserError
from mobilenets_jax.weights import load_pretrained
from mobilenets_jax.weights.init_from import config_fields
from mobilenets_jax.weights.readers import tflite_graph

tf = pytest.importorskip('tensorflow', reason='TensorFlow, which has the schema of TFLite files, is not installed')

from tflite_files import STRIDES, write_mobilenet_v1  # noqa: E402

SYMMETRIC_INT8 = (1 / 127.5, -1)
UNIT_INT8 = (1 / 255, -128)


def load(tmp_path, **changes):
    write_mobilenet_v1(tmp_path / 'model.tflite', **changes)
    return load_pretrained(str(tmp_path / 'model.tflite'))


def notes(capsys):
    """What was said of the file. The first network of a process may have more to say: that native ops are built."""
    return [line for line in capsys.readouterr().err.splitlines() if 'model.tflite' in line]


def logits_of_litert(path, images):
    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]['index'], images)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]['index'])


@pytest.mark.parametrize(
    ('changes', 'size', 'fields'),
    [
        ({}, 64, {}),
        ({'image_size': 96, 'num_classes': 2}, 96, {}),
        ({'activations': ('RELU',) * 27}, 64, {'activation': 'relu'}),
        ({'explicit_pads': (0, 1)}, 64, {}),  # as Keras writes 'same' at stride 2
        ({'explicit_pads': (1, 1)}, 64, {'padding': 'symmetric'}),
        ({'strides': (1, *STRIDES[1:])}, 64, {'num_removed_strides': 1}),
    ],
)
def test_the_network_computes_what_litert_computes(changes, size, fields, tmp_path):
    kernels = write_mobilenet_v1(tmp_path / 'model.tflite', end=None, **changes)
    model, variables, card = load_pretrained(str(tmp_path / 'model.tflite'))
    assert (card.model, card.width_multiplier, card.preprocessing.image_size) == ('mobilenet_v1', 0.25, size)
    assert card.fields == fields
    np.testing.assert_array_equal(variables['params']['backbone']['stem']['conv']['kernel'], kernels[0])
    images = np.random.default_rng(1).uniform(-30, 30, (1, size, size, 3)).astype(np.float32)
    expected = logits_of_litert(tmp_path / 'model.tflite', images)
    np.testing.assert_allclose(model.apply(variables, images, train=False)[0], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ('changes', 'normalization'),
    [
        ({'input_quantization': SYMMETRIC_INT8}, 'symmetric'),
        ({'input_quantization': UNIT_INT8}, 'unit'),
        ({'scales': [('MUL', 1 / 127.5), ('SUB', 1.0)]}, 'symmetric'),  # takes pixels in [0, 255]
        ({'scales': [('MUL', 2.0), ('SUB', 1.0)]}, 'symmetric'),  # takes [0, 1]
        ({'scales': [('MUL', 1 / 255)]}, 'unit'),
        ({'scales': [('SUB', [123.675, 116.28, 103.53]), ('MUL', [1 / 58.395, 1 / 57.12, 1 / 57.375])]}, 'imagenet'),
        ({'input_quantization': (1.0, -128), 'scales': [('MUL', 1 / 255)]}, 'unit'),
    ],
)
def test_the_range_of_the_input_is_read_from_the_file(changes, normalization, tmp_path, capsys):
    assert load(tmp_path, **changes).card.preprocessing.normalization == normalization
    assert notes(capsys) == []


def test_runs_and_evaluations_take_the_fields_of_the_graph(tmp_path):
    changes = {'activations': ('RELU',) * 27, 'strides': (1, *STRIDES[1:]), 'explicit_pads': (1, 1)}
    fields = config_fields(load(tmp_path, input_quantization=UNIT_INT8, **changes))
    assert {path: fields[f'model.{path}'] for path in ('activation', 'num_removed_strides', 'padding')} == {
        'activation': 'relu',
        'num_removed_strides': 1,
        'padding': 'symmetric',
    }
    assert (fields['image_size'], fields['data.normalization']) == (64, 'unit')


def test_the_range_assumed_for_a_float_file_without_one_is_printed(tmp_path, capsys):
    assert load(tmp_path).card.preprocessing.normalization == 'symmetric'
    (error,) = notes(capsys)
    assert "assumed: the range 'symmetric'" in error
    assert '--config.data.normalization' in error and 'model.tflite' in error
    load_pretrained(str(tmp_path / 'model.tflite'), normalization='unit')
    assert notes(capsys) == []


@pytest.mark.parametrize(('mean', 'std', 'normalization'), [(127.5, 127.5, 'symmetric'), (0.0, 255.0, 'unit')])
def test_the_range_is_read_from_metadata(mean, std, normalization, tmp_path, capsys):
    metadata = _metadata(mean, std)
    assert load(tmp_path, metadata=metadata).card.preprocessing.normalization == normalization
    assert notes(capsys) == []


def _metadata(mean, std):
    """ModelMetadata -> SubGraphMetadata -> TensorMetadata -> ProcessUnit -> NormalizationOptions."""
    builder = flatbuffers.Builder()

    def vector_of_floats(value):
        builder.StartVector(4, 1, 4)
        builder.PrependFloat32(value)
        return builder.EndVector()

    def table(size, fields):
        builder.StartObject(size)
        for field, (kind, value) in fields.items():
            prepend = {'offset': builder.PrependUOffsetTRelativeSlot, 'byte': builder.PrependUint8Slot}[kind]
            prepend(field, value, 0)
        return builder.EndObject()

    def vector_of(offset):
        builder.StartVector(4, 1, 4)
        builder.PrependUOffsetTRelative(offset)
        return ('offset', builder.EndVector())

    means, stds = vector_of_floats(mean), vector_of_floats(std)
    options = table(2, {0: ('offset', means), 1: ('offset', stds)})
    unit = table(2, {0: ('byte', 1), 1: ('offset', options)})
    tensor = table(7, {4: vector_of(unit)})
    subgraph = table(8, {2: vector_of(tensor)})
    builder.Finish(table(9, {3: vector_of(subgraph)}), b'M001')
    return bytes(builder.Output())


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'activations': ('RELU6',) * 5 + ('RELU',) + ('RELU6',) * 21}, r'DEPTHWISE_CONV_2D .* the activation relu '),
        ({'activations': ('RELU_N1_TO_1',) * 27}, r'CONV_2D .* the activation relu_n1_to_1'),
        ({'activations': ('NONE',) * 27}, r'CONV_2D .* the activation linear where the network has relu6'),
        ({'strides': (2, 2, 1, *STRIDES[3:])}, r'DEPTHWISE_CONV_2D .* has stride 2 where the network has 1'),
        ({'explicit_pads': (1, 0)}, 'padding'),
        ({'padding': 'VALID', 'image_size': 224}, 'padding'),
        ({'front': 'LOGISTIC'}, 'begins with the operator LOGISTIC'),
        ({'scales': [('MUL', 3.0)]}, r'its input is scaled to \[0, 765\]'),
        ({'pool': 'REDUCE_MAX'}, 'its operators without weights are REDUCE_MAX, SOFTMAX'),
        ({'end': 'LOGISTIC'}, 'its 5 classes do not exclude each other'),
        ({'custom': b'edgetpu-custom-op'}, 'is compiled for the Edge TPU'),
        ({'custom': b'OwnOperator'}, 'the operator CUSTOM OwnOperator'),
        ({'custom': b'TFLite_Detection_PostProcess'}, 'the operator CUSTOM TFLite_Detection_PostProcess has 1 inputs'),
        ({'channels': 1}, 'takes grey images'),
        ({'input_quantization': (0.02, 0)}, r'its input is scaled to \[-2.56, 2.54\]'),
    ],
    ids=lambda value: value if isinstance(value, str) else '-'.join(value),
)
def test_another_network_is_refused_by_the_operator_that_differs(changes, reason, tmp_path):
    with pytest.raises(UserError, match=reason) as error:
        load(tmp_path, **changes)
    assert '\n' not in str(error.value) and 'model.tflite' in str(error.value)


def test_a_network_with_unknown_ends_is_described(tmp_path):
    kernel = tf.zeros((3, 3, 3, 7))

    def network(images):
        return tf.nn.softmax(tf.reduce_mean(tf.nn.conv2d(images, kernel, 2, 'SAME'), (1, 2)) @ tf.zeros((7, 2)))

    concrete = tf.function(network).get_concrete_function(tf.TensorSpec((1, 32, 32, 3)))
    content = tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()
    (tmp_path / 'model.tflite').write_bytes(content)
    with pytest.raises(UserError, match='is no known network: it has 2 layers with weights, and 7 channels behind'):
        load_pretrained(str(tmp_path / 'model.tflite'))


@pytest.mark.parametrize(
    ('rule', 'reason'),
    [
        ({'align_corners': True}, 'is no known network: it has 2 layers with weights, and 7 channels behind its first'),
        ({'half_pixel_centers': True}, 'is no known network'),
        ({}, 'its resizes have corners that are neither aligned nor half pixels'),
    ],
)
def test_a_segmentation_network_of_unknown_ends(rule, reason, tmp_path):
    first, last = tf.zeros((3, 3, 3, 7)), tf.zeros((1, 1, 7, 2))

    def network(images):
        x = tf.nn.conv2d(tf.nn.relu(tf.nn.conv2d(images, first, 2, 'SAME')), last, 1, 'SAME')
        return tf.raw_ops.ResizeBilinear(images=x, size=(32, 32), **rule)

    concrete = tf.function(network).get_concrete_function(tf.TensorSpec((1, 32, 32, 3)))
    content = tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()
    (tmp_path / 'model.tflite').write_bytes(content)
    with pytest.raises(UserError, match=reason):
        load_pretrained(str(tmp_path / 'model.tflite'), task='segmentation')


def test_hard_sigmoids_whose_3_is_in_a_bias():
    """The converter adds the 3 of a hard sigmoid to the bias of the layer before it."""
    generator = np.random.default_rng(0)
    kernel, gate, bias, last = (generator.normal(size=shape).astype('f') for shape in ((3, 3, 3, 8), (8, 8), 8, (8, 2)))

    def network(images):
        x = tf.nn.relu6(tf.nn.conv2d(images, kernel, 2, 'SAME'))
        scale = tf.nn.relu6(tf.reduce_mean(x, (1, 2)) @ gate + bias + 3) / 6
        return tf.reduce_mean(x * scale[:, None, None], (1, 2)) @ last

    concrete = tf.function(network).get_concrete_function(tf.TensorSpec((1, 32, 32, 3)))
    graph = tflite_graph.load(tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert())
    assert [layer.activation for layer in graph.layers] == ['relu6', 'relu6', 'linear']
    np.testing.assert_allclose(graph.layers[1].bias, bias, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['float32', 'float16'])
def test_keras_mobilenet_v3_as_the_converter_writes_it(kind, tmp_path):
    theirs = tf.keras.applications.MobileNetV3Small((64, 64, 3), 1.0, weights=None, classes=3)
    generator = np.random.default_rng(0)
    theirs.set_weights(
        [generator.normal(0, 0.1, array.shape) + 0.5 * (array.ndim == 1) for array in theirs.get_weights()]
    )
    converter = tf.lite.TFLiteConverter.from_keras_model(theirs)
    if kind == 'float16':
        converter.optimizations, converter.target_spec.supported_types = [tf.lite.Optimize.DEFAULT], [tf.float16]
    (tmp_path / 'model.tflite').write_bytes(converter.convert())
    model, variables, card = load_pretrained(str(tmp_path / 'model.tflite'))
    assert (card.model, card.preprocessing.normalization) == ('mobilenet_v3_small', 'symmetric')
    images = generator.uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    probabilities = tf.nn.softmax(model.apply(variables, images / 127.5 - 1, train=False)[0])
    np.testing.assert_allclose(probabilities, theirs(images, training=False), atol=2e-3)
