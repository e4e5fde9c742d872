"""Real published files score what their makers' own code scores on the same images, and Keras's logits come out.

MOBILENETS_JAX_SHARED names the folder that has them.
"""

import json
import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from mobilenets_jax.weights import load_pretrained

ROOT = pathlib.Path(__file__).parents[2]
SHARED = pathlib.Path(os.environ.get('MOBILENETS_JAX_SHARED', '../shared')).resolve()
IMAGES = SHARED / 'data' / 'imagenet_one_per_class.zip'
WEIGHTS = SHARED / 'weights'
KERAS_V1 = 'keras_mobilenet_v1_0.25_224.h5'

pytestmark = pytest.mark.skipif(not WEIGHTS.is_dir(), reason=f'{WEIGHTS} is not there')


@pytest.mark.parametrize(
    ('name', 'network'),
    [
        (KERAS_V1, ('mobilenet_v1', 0.25, 'keras')),
        ('tflite_mobilenet_v1_0.25_224_float.tflite', ('mobilenet_v1', 0.25, 'tf')),
        ('tflite_mobilenet_v2_1.0_224_quant.tflite', ('mobilenet_v2', 1.0, 'tf')),
        ('tflite_mobilenet_v3_small_1.0_224_uint8.tflite', ('mobilenet_v3_small', 1.0, 'tf')),
    ],
)
def test_the_network_is_found_in_the_file(name, network):
    model, variables, card = load_pretrained(str(WEIGHTS / name))
    assert (card.model, card.width_multiplier, card.convention) == network
    assert model.num_classes == 1000 and variables['params']['logits']['kernel'].shape[-1] == 1000
    if name.endswith('.tflite'):  # the batch norms are folded: an identity but for the bias
        bn, stats = variables['params']['backbone']['stem']['bn'], variables['batch_stats']['backbone']['stem']['bn']
        np.testing.assert_allclose(bn['scale'] / np.sqrt(stats['var'] + card.bn_epsilon), 1, rtol=1e-6)
        assert not stats['mean'].any() and bn['bias'].any()


@pytest.fixture(scope='module')
def image_folder(tmp_path_factory):
    if not IMAGES.exists():
        pytest.skip(f'{IMAGES} is not there')
    folder = tmp_path_factory.mktemp('images')
    with zipfile.ZipFile(IMAGES) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'options', 'top1', 'top5', 'within'),
    [
        (KERAS_V1, [], 56.7, 81.0, 0.2),  # Keras
        ('tflite_mobilenet_v1_0.25_224_float.tflite', [], 55.4, 80.6, 0.2),  # LiteRT
        ('tflite_mobilenet_v2_1.0_224_quant.tflite', [], 88.0, 97.4, 0.5),  # LiteRT, quantized
        # Without the quantized network's rounding of h-swish, by which it was trained: LiteRT has 76.9 / 94.2.
        ('tflite_mobilenet_v3_small_1.0_224_uint8.tflite', [], 72.6, 92.7, 0.3),
        ('tflite_mobilenet_v3_small_1.0_224_uint8.tflite', ['--config.data.interpolation=bicubic'], 74.0, 93.0, 0.3),
    ],
)
def test_scores_on_real_images(name, options, top1, top5, within, image_folder):
    command = [sys.executable, ROOT / 'eval.py', f'--weights={WEIGHTS / name}']
    command += ['--config.data.name=image_folder', f'--config.data.dir={image_folder}', *options]
    environment = {**os.environ, 'XLA_FLAGS': ''}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    metrics = json.loads(result.stdout.splitlines()[-1])
    assert metrics['count'] == 1000
    assert abs(metrics['top1'] - top1) <= within + 1e-9 and abs(metrics['top5'] - top5) <= within + 1e-9


@pytest.mark.slow
def test_logits_are_those_of_keras(image_folder):
    keras = pytest.importorskip('keras', reason='Keras comes with TensorFlow, which is not installed')
    theirs = keras.applications.MobileNet(alpha=0.25, weights=None, classifier_activation=None)
    theirs.load_weights(WEIGHTS / KERAS_V1)
    model, variables, _ = load_pretrained(str(WEIGHTS / KERAS_V1))
    images = [keras.utils.load_img(path, target_size=(224, 224)) for path in sorted(image_folder.glob('*/*'))]
    pixels = np.stack([np.asarray(image, np.float32) for image in images]) / 127.5 - 1
    expected = theirs.predict(pixels, batch_size=50, verbose=0)
    actual = np.concatenate([model.apply(variables, part, train=False)[0] for part in np.split(pixels, 20)])
    np.testing.assert_allclose(actual, expected, atol=1e-3)
    assert (actual.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.99
