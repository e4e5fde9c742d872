"""Segmentation networks, detectors and found networks of runs as files: they score what the runs themselves find.

The truth of these data sets is what `predict` says of the images with the run. So the run scores 100 %, and its file
does if it computes the same, and its outputs are read with the right places, anchors and codes.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from small_runs import load_run, save_run

from configs import base
from mobilenets_jax.__main__ import main
from mobilenets_jax.commands.evaluate_tflite import _fields, measure
from mobilenets_jax.config import ConfigView
from mobilenets_jax.experiment import Experiment
from mobilenets_jax.export import exporting, metadata
from mobilenets_jax.export.litert import LiteNetwork
from mobilenets_jax.models import get_spec
from mobilenets_jax.models.found import to_text

ROOT = pathlib.Path(__file__).parents[2]
NETWORK = {'model.name': 'mobilenet_v2', 'model.width_multiplier': 0.25}
NAMES = ('ant', 'bee', 'cat', 'dog')
IMAGES = 4
SHARED = pathlib.Path(os.environ.get('MOBILENETS_JAX_SHARED', '../shared')).resolve()
COCO = SHARED / 'data' / 'coco_val2017_92.zip'


def pixels(count, height, width):
    """Images with large structures, uint8 [count, height, width, 3]."""
    coarse = np.random.default_rng(5).integers(0, 256, (count, 6, 8, 3), np.uint8)
    large = (Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC) for image in coarse)
    return np.stack([np.asarray(image) for image in large])


def write_images(folder):
    folder.mkdir()
    for number, image in enumerate(pixels(IMAGES, 60, 90)):
        Image.fromarray(image).save(folder / f'{number}.png')
    return sorted(map(str, folder.iterdir()))


def evaluate(path, *flags):
    """What `evaluate_tflite` prints."""
    command = [sys.executable, '-m', 'mobilenets_jax', 'evaluate_tflite', str(path), *flags]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture(scope='module')
def segmenter(packages, tmp_path_factory):
    """The workdir of a run on images of 65x97 pixels."""
    workdir = tmp_path_factory.mktemp('segmenter')
    save_run(workdir, 'segmentation', NAMES, {**NETWORK, 'data.name': 'mask_folder', 'data.eval_size': (65, 97)})
    return workdir


@pytest.fixture(scope='module')
def detector(packages, tmp_path_factory):
    """The workdir of a run on images of 64x96 pixels."""
    workdir = tmp_path_factory.mktemp('detector')
    save_run(workdir, 'detection', NAMES, {**NETWORK, 'data.name': 'coco', 'image_size': (64, 96)})
    return workdir


def test_a_segmenter_of_a_run_finds_the_pixels_that_the_run_finds(segmenter, tmp_path, capsys):
    paths = write_images(tmp_path / 'val')
    masks, file = tmp_path / 'valannot', tmp_path / 'file.tflite'
    assert main(['predict', *paths, f'--workdir={segmenter}', f'--masks={masks}']) == 0
    assert main(['export', f'--workdir={segmenter}', f'--out={file}']) == 0
    said = capsys.readouterr().out
    assert 'segmentation: mobilenet_v2 0.25 (tf), 65x97 px' in said and 'RESIZE_BILINEAR 3' in said
    assert 'delegates:   1 ' in said
    places = ('--config.data.name=mask_folder', f'--config.data.dir={tmp_path}', f'--config.data.class_names={NAMES}')
    metrics = evaluate(file, *places)
    assert metrics['count'] == IMAGES and metrics['pixel_accuracy'] > 99.9 and metrics['miou'] > 99.5
    assert len(np.unique(np.asarray(Image.open(masks / '0.png')))) > 1  # or else any file would be right


def test_a_detector_of_a_run_finds_the_boxes_that_the_run_finds(detector, tmp_path, capsys):
    paths = write_images(tmp_path / 'val')
    file = tmp_path / 'file.tflite'
    assert main(['predict', *paths, f'--workdir={detector}', '--min_score=0.5', '--json']) == 0
    predicted = json.loads(capsys.readouterr().out)
    (tmp_path / 'instances.json').write_text(json.dumps(coco_document(predicted)))
    assert main(['export', f'--workdir={detector}', f'--out={file}']) == 0
    assert 'detection: mobilenet_v2 0.25 (tf), 64x96 px' in capsys.readouterr().out
    places = ('--config.data.name=coco', f'--config.data.dir={tmp_path}', '--config.data.image_dir=val')
    metrics = evaluate(file, *places, '--config.data.annotation_file=instances.json')
    assert metrics['count'] == IMAGES and metrics['ap50'] > 95 and metrics['ap'] > 90


def coco_document(predicted):
    """Detections of `predict` as the annotations of COCO."""
    images = [
        {'id': number, 'file_name': pathlib.Path(row['image']).name, 'height': row['size'][0], 'width': row['size'][1]}
        for number, row in enumerate(predicted, start=1)
    ]
    objects = [(image['id'], found) for image, row in zip(images, predicted, strict=True) for found in row['objects']]
    assert len({found['name'] for _, found in objects}) > 1
    annotations = []
    for number, (image_id, found) in enumerate(objects, start=1):
        left, top, right, bottom = found['box']
        box = [left, top, right - left, bottom - top]
        facts = {'id': number, 'image_id': image_id, 'category_id': found['class'] + 1, 'iscrowd': 0}
        annotations.append({**facts, 'bbox': box, 'area': box[2] * box[3]})
    categories = [{'id': label, 'name': name} for label, name in enumerate(NAMES, start=1)]
    return {'images': images, 'annotations': annotations, 'categories': categories}


def test_a_detector_file_holds_its_anchors_and_how_they_are_read(detector):
    network = load_run(detector, 'detection')
    made = exporting.export(network)
    assert made.delegates == 1 and made.float_agreement.difference <= 1e-5
    record = metadata.read_record(made.content, 'file')
    assert record['facts'] == {'coder': {'scales': [10, 10, 5, 5], 'max_log_size': None}, 'scores': 'sigmoid'}
    anchors = metadata.read_anchors(made.content, 'file')
    # Maps of 4x6, 2x3, 1x2, 1x1, 1x1, 1x1 pixels, with 3 anchors on the first and 6 on the others.
    assert anchors.shape == (4 * 6 * 3 + (2 * 3 + 2 + 1 + 1 + 1) * 6, 4) == (138, 4)
    np.testing.assert_array_equal(anchors, network.anchors)
    assert LiteNetwork(made.content, 'file').shapes == {'codes': (138, 4), 'logits': (138, 5)}
    assert made.content.count(b'background\nant\nbee\ncat\ndog\n') == 1


@pytest.mark.parametrize('task', ['segmentation', 'detection'])
def test_8_bit_agrees_with_float(task, request):
    workdir = request.getfixturevalue({'segmentation': 'segmenter', 'detection': 'detector'}[task])
    network = load_run(workdir, task)
    made = exporting.export(network, 'int8', pixels(10, *network.image_size))
    assert made.quantized_agreement.images == 10
    assert made.quantized_agreement.correlation > 0.95 and made.quantized_agreement.same_class > 80


def test_a_found_network_of_a_run_scores_as_the_run(packages, tmp_path):
    spec = get_spec('mobilenet_v3_small', 0.35)
    table = to_text('found_tiny', dataclasses.replace(spec, blocks=spec.blocks[:2]))
    save_run(
        tmp_path,
        'classification',
        tuple('0123456789'),
        {'image_size': 32, 'model.name': 'found_tiny', 'model.table': table},
    )
    network = load_run(tmp_path, 'classification')
    content = exporting.export(network).content
    record = metadata.read_record(content, 'file')
    assert record['model'] == 'found_tiny'
    fields = _fields(record, {}, 'file')
    experiment = Experiment(ConfigView(base.get_config().to_dict()).updated(fields))
    assert experiment.identity.model == 'found_tiny'
    of_file = measure(experiment, LiteNetwork(content, 'file'))
    of_run = experiment.evaluator()(network.variables['params'], network.variables['batch_stats']).metrics
    assert of_file == pytest.approx(of_run, abs=0.3) and of_run['count'] == 360


def test_a_size_that_is_not_known_must_be_given(packages, tmp_path):
    save_run(tmp_path, 'segmentation', NAMES, NETWORK)
    with pytest.raises(ValueError, match=r"' does not set data\.eval_size: give the file a size by --image_size\."):
        load_run(tmp_path, 'segmentation')
    network = load_run(tmp_path, 'segmentation', image_size=33)
    assert network.image_size == (33, 33) and network.config['data.eval_resize'] == 33


MASKS = ('--config.data.name=mask_folder', '--config.data.classes=voc')
BOXES = ('--config.data.name=coco', '--config.data.annotation_file=instances.json', '--config.data.image_dir=val')


@pytest.mark.slow
@pytest.mark.skipif(not COCO.exists(), reason=f'{COCO} is missing')
@pytest.mark.parametrize(
    ('weights', 'data', 'metric', 'expected'),
    [
        ('deeplabv3_257_float.tflite', MASKS, 'miou', 32.12),
        (
            'ssdlite_mobilenet_v2_voc_300_integer_quant_with_postprocess.tflite',
            (*BOXES, '--config.data.classes=voc'),
            'ap50',
            41.84,
        ),
    ],
)
def test_published_weights_score_as_a_file_what_eval_scores(weights, data, metric, expected, packages, tmp_path):
    """The numbers are eval.py's, on 92 images of COCO."""
    with zipfile.ZipFile(COCO) as archive:
        archive.extractall(tmp_path)
    (tmp_path / 'images').rename(tmp_path / 'val')
    (tmp_path / 'voc_masks').rename(tmp_path / 'valannot')
    file = tmp_path / 'file.tflite'
    assert main(['export', f'--weights={SHARED / "weights" / weights}', f'--out={file}']) == 0
    metrics = evaluate(file, *data, f'--config.data.dir={tmp_path}')
    assert metrics['count'] == 92 and metrics[metric] == pytest.approx(expected, abs=0.05)
