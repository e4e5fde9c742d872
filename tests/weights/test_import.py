"""Weights in every format and naming come back where they belong; what does not fit is refused with both sides."""

import numpy as np
import pytest
import weight_files
from source_arrays import assert_same, source_arrays

from mobilenets_jax.errors import UserError
from mobilenets_jax.weights import load_pretrained
from mobilenets_jax.weights.files import WeightFile
from mobilenets_jax.weights.identify import identify
from mobilenets_jax.weights.names import SOURCES
from mobilenets_jax.weights.readers.contents import Contents

WRITERS = {
    'pytorch': ('weights.safetensors', weight_files.write_safetensors),
    'keras': ('weights.h5', weight_files.write_h5),
}
# The rest are for the long tests.
QUICK = {'mobilenet_v1', 'mobilenet_v2', 'mobilenet_v3_small', 'shufflenet_v2'}
WIDTHS = {'mobilenet_v1': 0.5, 'mobilenet_v2': 0.35, 'mobilenet_v3_large': 0.75, 'mobilenet_v3_small': 0.75}


@pytest.mark.parametrize(
    ('source', 'name'),
    [
        pytest.param(source, name, marks=[] if name in QUICK else [pytest.mark.slow])
        for source, entry in SOURCES.items()
        if entry.layout in WRITERS
        for name in entry.maps
    ],
)
def test_every_named_network_is_found_and_filled(source, name, tmp_path):
    width = WIDTHS.get(name, 1.0)
    expected, arrays = source_arrays(source, name, width)
    file_name, write = WRITERS[SOURCES[source].layout]
    write(tmp_path / file_name, arrays)
    model, variables, card = load_pretrained(str(tmp_path / file_name))
    assert (card.model, card.width_multiplier, model.num_classes) == (name, width, 1000)
    assert card.convention == SOURCES[source].convention
    assert_same(variables, expected)


@pytest.mark.parametrize(
    'write',
    [
        weight_files.write_pth,
        weight_files.write_legacy_pth,
        lambda path, arrays: weight_files.write_pth(path, arrays, lambda tensors: {'epoch': 3, 'state_dict': tensors}),
        lambda path, arrays: weight_files.write_pth(path, {f'module.{name}': a for name, a in arrays.items()}),
    ],
    ids=['zip', 'legacy', 'training checkpoint', 'data parallel'],
)
def test_pytorch_files_are_read_without_pytorch(write, tmp_path):
    expected, arrays = source_arrays('torchvision', 'mobilenet_v2', 0.25)
    arrays['features.0.1.num_batches_tracked'] = np.array(7.0, np.float32)
    write(tmp_path / 'weights.pth', arrays)
    assert_same(load_pretrained(str(tmp_path / 'weights.pth'), 'mobilenet_v2').variables, expected)


def test_tensorflow_checkpoint_gives_its_averages(tmp_path):
    tf = pytest.importorskip('tensorflow', reason='TensorFlow is not installed')
    expected, arrays = source_arrays('slim', 'mobilenet_v1', 0.25, num_classes=1001)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        averages = {f'{name}/ExponentialMovingAverage': array for name, array in arrays.items()}
        raw = {name: np.zeros_like(array) for name, array in arrays.items()}
        variables = [
            tf.compat.v1.get_variable(name, initializer=array, use_resource=False)
            for name, array in (raw | averages | {'global_step': np.int64(3)}).items()
        ]
        session.run([variable.initializer for variable in variables])
        tf.compat.v1.train.Saver(variables).save(session, str(tmp_path / 'model.ckpt'))
    model, variables, _ = load_pretrained(str(tmp_path / 'model.ckpt'), num_classes=1001)
    assert_same(variables, expected)
    model, variables, _ = load_pretrained(str(tmp_path / 'model.ckpt'))  # the first class is the background
    assert model.num_classes == 1000
    assert np.array_equal(variables['params']['logits']['kernel'], expected['params/logits/kernel'][:, 1:])


@pytest.mark.parametrize(
    ('name', 'width', 'convention'),
    [
        ('mobilenet_v1', 1.0, 'tf'),
        ('mobilenet_v3_small', 1.0, 'tf'),
        ('mobilenet_v3_large', 1.25, 'model_garden'),  # whose 1280-wide layer is scaled
    ],
)
def test_checkpoint_of_numbered_layers(name, width, convention, tmp_path):
    """As the Model Garden's trainer writes it: an object graph, with an optimizer and counters beside the model."""
    tf = pytest.importorskip('tensorflow', reason='TensorFlow is not installed')
    expected, arrays = source_arrays('model_garden', name, width, num_classes=1001, convention=convention)
    objects = tf.train.Checkpoint(global_step=tf.Variable(7))
    for path, array in (arrays | {'optimizer/learning_rate': np.float32(0.1)}).items():
        *parents, leaf = path.split('/')
        node = objects
        for parent in parents:
            if not hasattr(node, parent):
                setattr(node, parent, tf.train.Checkpoint())
            node = getattr(node, parent)
        setattr(node, leaf, tf.Variable(array))
    objects.save(str(tmp_path / 'model'))
    model, variables, card = load_pretrained(str(tmp_path / 'model-1'), num_classes=1001)
    found = (card.model, card.width_multiplier, card.convention, model.num_classes)
    assert found == (name, width, convention, 1001)
    assert_same(variables, expected)


def test_folded_weights_are_identified_among_all_architectures():
    """Their names mean nothing, so every architecture is a candidate, also at widths that it does not have."""
    _, arrays = source_arrays('tflite', 'mobilenet_v1', 0.25, num_classes=7)
    file = WeightFile('tflite', Contents({name: array for name, array in arrays.items() if name}))
    identity, model, variables = identify(file, 'file')
    assert (identity.name, identity.width_multiplier, model.num_classes) == ('mobilenet_v1', 0.25, 7)
    assert np.array_equal(variables['params']['logits']['kernel'], arrays['last/kernel'])


def test_another_number_of_classes_needs_to_be_asked_for(tmp_path, capsys):
    expected, arrays = source_arrays('timm', 'mobilenet_v2', 0.25, num_classes=7)
    weight_files.write_safetensors(tmp_path / 'weights.safetensors', arrays)
    path = str(tmp_path / 'weights.safetensors')
    assert load_pretrained(path).model.num_classes == 7
    model, variables, _ = load_pretrained(path, num_classes=3)
    assert model.num_classes == 3 and variables['params']['logits']['kernel'].shape == (1280, 3)
    assert 'its classifier is left out: a new one takes its place' in capsys.readouterr().err
    assert np.array_equal(
        variables['params']['backbone']['stem']['conv']['kernel'], expected['params/backbone/stem/conv/kernel']
    )


def test_a_refusal_lists_both_sides(tmp_path):
    _, arrays = source_arrays('torchvision', 'mobilenet_v2', 0.25)
    del arrays['features.2.conv.0.0.weight']
    arrays['extra'] = np.zeros((2, 3), np.float32)
    arrays['features.3.conv.1.1.bias'] = np.zeros(5, np.float32)
    weight_files.write_safetensors(tmp_path / 'weights.safetensors', arrays)
    with pytest.raises(UserError) as error:
        load_pretrained(str(tmp_path / 'weights.safetensors'))
    message = str(error.value)
    assert (
        'is no known network. The nearest is mobilenet_v2 0.25 (torchvision) as torchvision names it; missing'
        in message
    )
    assert 'missing from the file: features.2.conv.0.0.weight' in message
    assert 'left over in the file: extra [2, 3]' in message
    assert 'of another shape: features.3.conv.1.1.bias [5] where [48] is asked for' in message
    assert '\n' not in message


def test_weights_of_another_architecture_are_refused(tmp_path):
    _, arrays = source_arrays('torchvision', 'mobilenet_v2', 0.25)
    weight_files.write_safetensors(tmp_path / 'weights.safetensors', arrays)
    with pytest.raises(UserError, match='is not mobilenet_v3_small .* missing from the file: .* left over in the file'):
        load_pretrained(str(tmp_path / 'weights.safetensors'), model='mobilenet_v3_small')
