"""Published segmentation files score what LiteRT scores with them, and give the mask that their users expect.

MOBILENETS_JAX_SHARED names the folder that has them. Protocol: the long side is resized to the network's input, which
is filled up with grey below and to the right; the classes of the pixels are cut out and resized to the mask by the
nearest pixel.
"""

import io
import os
import pathlib
import zipfile

import numpy as np
import pytest
from PIL import Image

from mobilenets_jax.errors import UserError
from mobilenets_jax.inference import freeze
from mobilenets_jax.weights import load_pretrained
from mobilenets_jax.weights.folding import unfold_batch_norms

SHARED = pathlib.Path(os.environ.get('MOBILENETS_JAX_SHARED', '../shared')).resolve()
WEIGHTS, DATA = SHARED / 'weights', SHARED / 'data'
FLOAT, QUANTIZED = 'deeplabv3_257_float.tflite', 'deeplabv3_mnv2_dm05_pascal_quant.tflite'
IMAGES, GOLDENS = DATA / 'coco_val2017_92.zip', DATA / 'tflite_support_goldens.zip'
IGNORED = 255

pytestmark = pytest.mark.skipif(
    not (WEIGHTS / FLOAT).exists() or not IMAGES.exists(), reason=f'{SHARED} has no segmentation files'
)


@pytest.fixture(scope='module')
def float_network():
    return load_pretrained(str(WEIGHTS / FLOAT), task='segmentation')


def classes_of(forward, image, size):
    """The class of every pixel of a PIL image."""
    scale = size / max(image.size)
    width, height = (round(side * scale) for side in image.size)
    pixels = np.full((1, size, size, 3), 127.5, np.float32)
    pixels[0, :height, :width] = np.asarray(image.resize((width, height), Image.BILINEAR))
    classes = np.asarray(forward(pixels / 127.5 - 1))[0].argmax(-1)[:height, :width].astype(np.uint8)
    return np.asarray(Image.fromarray(classes).resize(image.size, Image.NEAREST))


def mean_iou(pretrained):
    """Over the classes that are in the masks, of all images together.

    One of the 21, cow, is in none; the quantized network finds it.
    """
    forward, size = freeze(pretrained.model, pretrained.variables), pretrained.card.preprocessing.image_size
    confusion = np.zeros((21, 21), np.int64)
    with zipfile.ZipFile(IMAGES) as archive:
        masks = sorted(name for name in archive.namelist() if name.startswith('voc_masks/') and name.endswith('.png'))
        assert len(masks) == 92
        for name in masks:
            image = Image.open(io.BytesIO(archive.read(f'images/{pathlib.Path(name).stem}.jpg'))).convert('RGB')
            mask = np.asarray(Image.open(io.BytesIO(archive.read(name))))
            found = classes_of(forward, image, size)
            known = mask != IGNORED
            confusion += np.bincount(21 * mask[known].astype(int) + found[known], minlength=441).reshape(21, 21)
    shared = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - shared
    present = confusion.sum(1) > 0
    assert present.sum() == 20
    return np.mean(shared[present] / union[present])


def test_the_network_is_found_in_the_float_file(float_network):
    model, variables, card = float_network
    assert (card.task, card.model, card.width_multiplier, card.convention) == (
        'segmentation',
        'mobilenet_v2',
        0.5,
        'tf',
    )
    assert (model.output_stride, model.num_classes, model.head_spec.filters) == (8, 21, 256)
    assert model.head_spec.align_corners and card.fields['divisor'] == 1 and card.folded
    assert (card.preprocessing.image_size, card.preprocessing.normalization) == (257, 'symmetric')
    assert set(variables['params']['head']) == {'image_pool', 'aspp0', 'projection', 'logits'}
    # The head's batch norms are identities by their own epsilon.
    bn, stats = (variables[part]['head']['projection']['bn'] for part in ('params', 'batch_stats'))
    np.testing.assert_allclose(bn['scale'] / np.sqrt(stats['var'] + 1e-5), 1, rtol=1e-6)


def test_the_expected_mask_comes_out(float_network):
    """The golden mask of TensorFlow Lite's support library, whose own test allows one pixel in a hundred to differ."""
    with zipfile.ZipFile(GOLDENS) as archive:
        image = Image.open(io.BytesIO(archive.read('segmentation_input_rotation0.jpg'))).convert('RGB')
        golden = np.asarray(Image.open(io.BytesIO(archive.read('segmentation_golden_rotation0.png')))) // 10
    found = classes_of(freeze(float_network.model, float_network.variables), image, 257)
    assert golden.shape == found.shape[:2] == (257, 257)
    assert np.mean(found == golden) >= 0.999


def test_float_scores_what_litert_scores(float_network):
    assert mean_iou(float_network) == pytest.approx(0.321, abs=0.003)


@pytest.mark.slow
def test_quantized_scores_nearly_what_litert_scores():
    """Read in float: without the rounding of activations that it was trained with."""
    pretrained = load_pretrained(str(WEIGHTS / QUANTIZED), task='segmentation')
    assert (pretrained.model.output_stride, pretrained.card.name) == (16, 'tflite:deeplabv3_mnv2_dm05_pascal_quant')
    assert pretrained.class_names[15] == 'person'
    assert mean_iou(pretrained) == pytest.approx(0.409, abs=0.02)


def test_it_is_no_classifier():
    with pytest.raises(UserError, match='is a network for segmentation, where one for classification is asked for'):
        load_pretrained(str(WEIGHTS / FLOAT))
    classifier = str(WEIGHTS / 'tflite_mobilenet_v1_0.25_224_float.tflite')
    with pytest.raises(UserError, match='is a network for classification, where one for segmentation is asked for'):
        load_pretrained(classifier, task='segmentation')


def test_other_classes_get_a_new_head(float_network):
    model, variables, card = load_pretrained(str(WEIGHTS / FLOAT), num_classes=11, task='segmentation')
    logits = variables['params']['head']['logits']
    assert (model.num_classes, logits['kernel'].shape, card.class_names) == (11, (256, 11), ())
    assert not logits['kernel'].any() and not logits['bias'].any()
    kept = float_network.variables['params']['head']['projection']['conv']['kernel']
    np.testing.assert_array_equal(variables['params']['head']['projection']['conv']['kernel'], kept)


def test_unfolded_batch_norms_of_backbone_and_head_change_nothing(float_network):
    """The head's have another epsilon than the backbone's."""
    model, variables, _ = float_network
    images = np.random.default_rng(0).uniform(-1, 1, (2, 65, 65, 3)).astype(np.float32)
    unfolded = unfold_batch_norms(model, variables, images)
    before, after = (model.apply(values, images, train=False)[0] for values in (variables, unfolded))
    np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())
    stats = unfolded['batch_stats']
    assert np.max(np.abs(stats['head']['projection']['bn']['mean'])) > 0.01
    assert stats['backbone']['stem']['bn']['mean'].any()
