"""Published detectors are found in their files, and find what others say that they find.

MOBILENETS_JAX_SHARED names the folder that has them. Loading compares codes and logits with LiteRT's, and the anchors
with the file's.
"""

import io
import json
import os
import pathlib
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from mobilenets_jax.__main__ import main
from mobilenets_jax.boxes.postprocessing import postprocess
from mobilenets_jax.boxes.suppression import TF_NMS
from mobilenets_jax.errors import UserError
from mobilenets_jax.inference import freeze
from mobilenets_jax.weights import load_pretrained
from mobilenets_jax.weights.folding import unfold_batch_norms
from mobilenets_jax.weights.init_from import config_fields

SHARED = pathlib.Path(os.environ.get('MOBILENETS_JAX_SHARED', '../shared')).resolve()
V2 = SHARED / 'weights' / 'ssdlite_mobilenet_v2_voc_300_integer_quant_with_postprocess.tflite'
V1 = SHARED / 'weights' / 'coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite'
GOLDENS = SHARED / 'data' / 'tflite_support_goldens.zip'

pytestmark = pytest.mark.skipif(not (V1.exists() and V2.exists()), reason=f'{SHARED} has no detection files')


@pytest.fixture(scope='module')
def v1():
    return load_pretrained(str(V1), task='detection')


def test_the_light_network_is_found_in_its_file():
    model, variables, card = load_pretrained(str(V2), task='detection')
    assert (card.name, card.model, card.width_multiplier) == ('tflite:ssdlite_mobilenet_v2_voc_300', 'mobilenet_v2', 1)
    assert (model.num_classes, model.head_spec.extra_kind, model.head_spec.predictor) == (20, 'separable', 'separable')
    assert (card.preprocessing.image_size, card.preprocessing.normalization, card.folded) == (300, 'symmetric', True)
    assert variables['params']['head']['classes0']['project']['kernel'].shape == (576, 3 * 21)
    fields = config_fields(load_pretrained(str(V2), task=None))
    assert (fields['image_size'], fields['data.resize'], fields['detection.head']) == ((300, 300), 'legacy', 'tf')
    assert 'data.coco_ids' not in fields


def test_the_plain_network_is_found_in_its_file(v1):
    """The file is named 1.0; its layers have 0.75 of the channels."""
    model, _, card = v1
    assert (card.model, card.width_multiplier, card.fields['head']) == ('mobilenet_v1', 0.75, 'ssd')
    assert (model.num_classes, v1.class_names[16], v1.class_names[11]) == (90, 'cat', 'unused 12')
    fields = config_fields(v1)
    assert (fields['detection.head'], fields['data.coco_ids'], fields['model.num_classes']) == ('ssd', 'sparse', 90)


@pytest.mark.skipif(not GOLDENS.exists(), reason=f'{GOLDENS} is missing')
def test_the_expected_objects_are_found(v1):
    """Two cats and two dogs of TensorFlow Lite's support library, whose own test has the quantized network's boxes."""
    with zipfile.ZipFile(GOLDENS) as archive:
        image = Image.open(io.BytesIO(archive.read('cats_and_dogs.jpg'))).convert('RGB')
        expected = json.loads(archive.read('expected_detections.json'))['detections']
    pixels = np.asarray(image.resize((300, 300), Image.BILINEAR), np.float32)[None] / 127.5 - 1
    model, outputs = v1.model, freeze(v1.model, v1.variables)(pixels)
    head = model.head_spec
    found = postprocess(outputs, model.anchors((300, 300)), head.coder, head.scores, TF_NMS)
    boxes, scores, labels = (np.asarray(leaf[0]) for leaf in found)
    for golden in expected:
        x, y, width, height = golden['bbox_xywh']
        box = np.array([y, x, y + height, x + width]) / [600, 1200, 600, 1200]
        overlaps = [overlap(box, other) for other in boxes] * (labels == golden['category_index'])
        best = int(np.argmax(overlaps))
        assert overlaps[best] > 0.8
        assert scores[best] == pytest.approx(golden['score'], abs=0.12)


@pytest.mark.skipif(not GOLDENS.exists(), reason=f'{GOLDENS} is missing')
def test_predict_names_the_expected_objects_and_draws_them(tmp_path, capsys):
    with zipfile.ZipFile(GOLDENS) as archive:
        picture = archive.extract('cats_and_dogs.jpg', tmp_path)
        expected = json.loads(archive.read('expected_detections.json'))['detections']
    flags = [f'--weights={V1}', '--min_score=0.4', '--json', f'--out={tmp_path / "seen.png"}']
    assert main(['predict', picture, *flags]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row['size'] == [600, 1200] and min(found['score'] for found in row['objects']) >= 0.4
    for golden in expected:
        x, y, width, height = golden['bbox_xywh']
        box = np.array([x, y, x + width, y + height])
        of_class = [found for found in row['objects'] if found['class'] == golden['category_index']]
        assert {found['name'] for found in of_class} == {{16: 'cat', 17: 'dog'}[golden['category_index']]}
        assert max(overlap(box, np.array(found['box'])) for found in of_class) > 0.8
    assert Image.open(tmp_path / 'seen.png').size == (600, 480)


@pytest.mark.parametrize(
    ('flag', 'message'),
    [
        ('--masks=x', "--masks='x' means nothing to a detector."),
        ('--min_score=2', '--min_score=2.0 must be in [0, 1].'),
        ('--top=0', '--top=0 must be positive.'),
    ],
)
def test_option_without_a_meaning_is_named(flag, message, capsys):
    assert main(['predict', 'photo.jpg', f'--weights={V1}', flag]) == 2
    assert capsys.readouterr().err == f'error: {message}\n'


def overlap(one, other):
    """Intersection over union of two boxes, corner by corner: [ymin, xmin, ymax, xmax]."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = np.prod(np.maximum(sides, 0))
    return shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared)


def test_other_classes_get_a_new_head(v1):
    model, variables, card = load_pretrained(str(V1), num_classes=3, task='detection')
    head = variables['params']['head']
    assert (model.num_classes, card.class_names, head['classes1']['project']['kernel'].shape) == (3, (), (768, 6 * 4))
    assert not head['classes1']['project']['kernel'].any() and not head['classes5']['project']['bias'].any()
    kept = v1.variables['params']['head']['boxes1']['project']['kernel']
    np.testing.assert_array_equal(head['boxes1']['project']['kernel'], kept)


@pytest.mark.slow
def test_unfolded_batch_norms_of_backbone_and_head_change_nothing():
    model, variables, _ = load_pretrained(str(V2), task='detection')
    images = np.random.default_rng(0).uniform(-1, 1, (2, 96, 96, 3)).astype(np.float32)
    unfolded = unfold_batch_norms(model, variables, images)
    before, after = (freeze(model, values)(images) for values in (variables, unfolded))
    for name, leaf in before.items():
        np.testing.assert_allclose(after[name], leaf, atol=1e-3 * np.abs(leaf).max())
    statistics = unfolded['batch_stats']['head']
    assert (
        statistics['extra1']['depthwise']['bn']['mean'].any()
        and statistics['classes2']['depthwise']['bn']['mean'].any()
    )


def test_names_of_a_file_without_a_card(tmp_path, capsys):
    path = shutil.copy(V2, tmp_path / 'model.tflite')
    pretrained = load_pretrained(str(path), task='detection')
    assert pretrained.class_names[:2] == ['aeroplane', 'bicycle'] and pretrained.card.preprocessing.resize == 'legacy'
    assert "assumed: the range 'symmetric'" in capsys.readouterr().err


def test_it_is_no_classifier():
    with pytest.raises(UserError, match='is a network for detection, where one for classification is asked for'):
        load_pretrained(str(V2))
    with pytest.raises(UserError, match=r'is not mobilenet_v1 1 \(tf\) with (tf|ssd) as tflite names it'):
        load_pretrained(str(V2), 'mobilenet_v1', task='detection')


def test_other_anchors_are_refused(tmp_path):
    """The first of the anchors' numbers is changed by a tenth of the image."""
    from tensorflow.lite.python import schema_py_generated as schema

    content = bytearray(V2.read_bytes())
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    graph = model.subgraphs[0]
    index = graph.operators[-1].inputs[2]
    stored = np.asarray(model.buffers[graph.tensors[index].buffer].data, np.uint8).tobytes()
    place = content.find(stored)
    assert place > 0 and content.find(stored, place + 1) < 0
    first = np.frombuffer(stored, '<f4')[:1]
    content[place : place + 4] = (first + np.float32(0.1)).tobytes()
    path = tmp_path / 'model.tflite'
    path.write_bytes(content)
    with pytest.raises(UserError, match='its 1917 anchors are not those of the network, which has 1917; .* is 0.1 of'):
        load_pretrained(str(path), task='detection')
