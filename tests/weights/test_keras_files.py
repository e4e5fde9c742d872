"""Models as Keras saves them: size, range and classifier are those that the file states, and the logits are Keras's."""

import json
import zipfile

import numpy as np
import pytest
from covering import covering

from mobilenets_jax.data.options import NORMALIZATIONS
from mobilenets_jax.errors import UserError
from mobilenets_jax.weights import load_pretrained

keras = pytest.importorskip('keras', reason='Keras comes with TensorFlow, which is not installed')
layers = keras.layers

SIZE = 64
PIXELS = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.float32)
PIXELS[0] *= np.linspace(0, 1, SIZE)[:, np.newaxis]
IMAGENET_MEAN, IMAGENET_VARIANCE = [0.485, 0.456, 0.406], [0.229**2, 0.224**2, 0.225**2]


@pytest.fixture(scope='module')
def base():
    """MobileNetV1 0.25 without top, with weights by which images differ."""
    model = keras.applications.MobileNet(input_shape=(SIZE, SIZE, 3), alpha=0.25, weights=None, include_top=False)
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(PIXELS / 127.5 - 1, training=True)  # the running statistics are those of the images
    for norm in norms:
        norm.momentum = 0.99
    return model


def on_top(base, *before, head=None, pooling=layers.GlobalAveragePooling2D):
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), *before, base, pooling(), *(head or [layers.Dense(4)])])


def load(model, tmp_path, suffix='keras', **options):
    path = tmp_path / f'weights.{suffix}'
    (model.save_weights if suffix == 'weights.h5' else model.save)(path)
    return load_pretrained(str(path), **options)


def assert_same_logits(pretrained, expected):
    mean, std = map(np.array, NORMALIZATIONS[pretrained.card.preprocessing.normalization])
    images = ((PIXELS / 255 - mean) / std).astype(np.float32)
    actual, _ = pretrained.model.apply(pretrained.variables, images, train=False)
    assert np.ptp(expected, axis=0).max() > 1e-2  # the images differ
    np.testing.assert_allclose(actual, expected, atol=1e-3)


FRONTS = {
    'unit': lambda: [layers.Rescaling(1 / 255)],
    'symmetric': lambda: [layers.RandomFlip(), keras.Sequential([layers.Rescaling(1 / 127.5, offset=-1)])],
    'imagenet': lambda: [
        layers.Rescaling(1 / 255),
        layers.Normalization(mean=IMAGENET_MEAN, variance=IMAGENET_VARIANCE),
    ],
}


@pytest.mark.parametrize(('normalization', 'suffix'), covering(list(FRONTS), ['keras', 'h5']))
def test_layers_in_front_state_the_range(normalization, suffix, base, tmp_path, capsys):
    model = on_top(base, *FRONTS[normalization]())
    pretrained = load(model, tmp_path, suffix)
    preprocessing = pretrained.card.preprocessing
    assert (preprocessing.normalization, preprocessing.image_size) == (normalization, SIZE)
    assert_same_logits(pretrained, model.predict(PIXELS, verbose=0))
    assert capsys.readouterr().err == ''


def test_operations_in_front_state_the_range(base, tmp_path):
    inputs = keras.Input((SIZE, SIZE, 3))
    features = base(keras.applications.mobilenet.preprocess_input(inputs), training=False)
    model = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(features)))
    pretrained = load(model, tmp_path)
    assert pretrained.card.preprocessing.normalization == 'symmetric'
    assert_same_logits(pretrained, model.predict(PIXELS, verbose=0))


def test_mobilenet_v3_rescales_by_itself(tmp_path):
    model = keras.applications.MobileNetV3Small(
        input_shape=(SIZE, SIZE, 3), minimalistic=True, weights=None, classes=4, classifier_activation=None
    )
    pretrained = load(model, tmp_path, 'h5')
    preprocessing = pretrained.card.preprocessing
    assert (preprocessing.normalization, preprocessing.image_size) == ('symmetric', SIZE)
    inputs = keras.Input((SIZE, SIZE, 3))
    twice = keras.Model(inputs, model(layers.Rescaling(1 / 127.5, -1)(inputs)))
    with pytest.raises(UserError, match=r'turn pixels x in \[0, 255\] into 6.151e-05 x \+ -1.008, which is none of'):
        load(twice, tmp_path)


@pytest.mark.parametrize(
    ('front', 'message'),
    [
        (lambda: [layers.Rescaling(1 / 100)], r'Rescaling \S+ turn pixels x in \[0, 255\] into 0.01 x \+ 0, which'),
        (
            lambda: [layers.Lambda(lambda x: x / 255)],
            r'begins with the layer \S+ \(Lambda\), whose effect is not known',
        ),
        (lambda: [layers.Permute((2, 1, 3))], r'begins with the layer \S+ \(Permute\), whose effect is not known'),
    ],
    ids=['range', 'lambda', 'layer'],
)
def test_fronts_of_no_known_range_are_refused(front, message, base, tmp_path):
    with pytest.raises(UserError, match=message):
        load(on_top(base, *front()), tmp_path)


HEADS = {
    'softmax': [lambda: layers.Dense(4, activation='softmax', name='mine')],
    'dropout': [lambda: layers.Dropout(0.2), lambda: layers.Dense(4), lambda: layers.Activation('softmax')],
    'nested': [lambda: keras.Sequential([layers.Dropout(0.2), layers.Dense(4, activation='softmax')])],
}


@pytest.mark.parametrize(('head', 'suffix'), covering(list(HEADS), ['keras', 'h5', 'weights.h5']))
def test_heads_are_found_by_where_they_stand(head, suffix, base, tmp_path):
    model = on_top(base, layers.Rescaling(1 / 127.5, -1), head=[make() for make in HEADS[head]])
    pretrained = load(model, tmp_path, suffix)
    logits = np.log(model.predict(PIXELS, verbose=0))
    actual, _ = pretrained.model.apply(pretrained.variables, PIXELS / 127.5 - 1, train=False)
    np.testing.assert_allclose(
        actual - actual.mean(axis=1, keepdims=True), logits - logits.mean(axis=1, keepdims=True), atol=1e-3
    )


@pytest.mark.parametrize(
    ('head', 'pooling', 'message'),
    [
        ([layers.Dense(8, name='hidden'), layers.Dense(4, name='out')], None, r'has 2 layers \(hidden, out\) where'),
        ([layers.Dense(4, name='out', activation='relu')], None, 'its classifier out ends in relu'),
        ([layers.BatchNormalization(name='bn'), layers.Dense(4)], None, r'than a mean and a dense layer: bn \(Batch'),
        ([layers.Dense(4)], layers.GlobalMaxPooling2D, r'a dense layer: \S+ \(GlobalMaxPooling2D\)'),
    ],
    ids=['two layers', 'activation', 'norm', 'pooling'],
)
def test_other_heads_are_refused_or_replaced(head, pooling, message, base, tmp_path):
    model = on_top(base, head=head, pooling=pooling or layers.GlobalAveragePooling2D)
    with pytest.raises(UserError, match=message) as error:
        load(model, tmp_path)
    assert 'num_classes=N of load_pretrained, or new_head=True' in str(error.value) and '\n' not in str(error.value)
    logits = load(model, tmp_path, num_classes=3).variables['params']['logits']
    assert logits['kernel'].shape == (256, 3) and not logits['kernel'].any()


@pytest.mark.parametrize('suffix', ['keras', 'h5', 'weights.h5'])
def test_without_top_a_new_head_must_be_asked_for(suffix, base, tmp_path):
    with pytest.raises(UserError, match=r'is mobilenet_v1 0\.25 .*, but it has no classifier'):
        load(base, tmp_path, suffix)
    model, variables, _ = load(base, tmp_path, suffix, num_classes=3)
    assert model.num_classes == 3
    assert np.array_equal(variables['params']['backbone']['stem']['conv']['kernel'], base.layers[1].get_weights()[0])


def test_another_epsilon_is_another_network(base, tmp_path):
    path = tmp_path / 'weights.keras'
    on_top(base).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.dumps(json.loads(members['config.json'])).replace('"epsilon": 0.001', '"epsilon": 0.01')
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in (members | {'config.json': config.encode()}).items():
            archive.writestr(name, content)
    with pytest.raises(
        UserError, match=r'has the weights of mobilenet_v1 0\.25 .*, but its layer \S+ has epsilon=0.01'
    ):
        load_pretrained(str(path))


def with_rectifiers(base, change):
    """`base` with other ReLUs: `change` gets the number of each and returns its `max_value`."""
    numbers = iter(range(100))

    def clone(layer):
        is_relu = isinstance(layer, layers.ReLU)
        return (
            layers.ReLU(change(next(numbers)), name=layer.name)
            if is_relu
            else type(layer).from_config(layer.get_config())
        )

    model = keras.models.clone_model(base, clone_function=clone)
    model.set_weights(base.get_weights())
    return model


@pytest.mark.parametrize('suffix', ['keras', 'h5'])
def test_relu_in_the_place_of_relu6(suffix, base, tmp_path):
    model = on_top(with_rectifiers(base, lambda number: None))
    pretrained = load(model, tmp_path, suffix)
    assert pretrained.card.fields == {'activation': 'relu'}
    assert_same_logits(pretrained, model(PIXELS / 127.5 - 1, training=False))


@pytest.mark.parametrize(
    ('change', 'fault'),
    [(lambda number: 6.0 if number % 2 else None, 'relu and relu6'), (lambda number: 4.0, r'ReLU\(max_value=4, ')],
)
def test_other_rectifiers_are_another_network(change, fault, base, tmp_path):
    with pytest.raises(
        UserError, match=f'has the weights of mobilenet_v1 0.25 .*, but behind its batch norms it has {fault}'
    ):
        load(on_top(with_rectifiers(base, change)), tmp_path)


def test_grey_images_are_refused(tmp_path):
    grey = keras.applications.MobileNet(input_shape=(32, 32, 1), alpha=0.25, weights=None, classes=4)
    with pytest.raises(UserError, match=r'its input has the shape \[None, 32, 32, 1\]; images of 3 channels are read'):
        load(grey, tmp_path)
