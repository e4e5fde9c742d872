"""Real networks in 8 bit keep their accuracy on real images; and LiteRT's own scores of published files come out.

MOBILENETS_JAX_SHARED names the folder that has them. 40 of 1000 images calibrate, the others are evaluated.
"""

import json
import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from mobilenets_jax.data.augmentation import normalize
from mobilenets_jax.export.agreement import agreement
from mobilenets_jax.export.exporting import export
from mobilenets_jax.export.litert import LiteNetwork
from mobilenets_jax.tasks.classified_images import trained_classifier
from mobilenets_jax.tasks.image_files import read_image
from mobilenets_jax.weights import load_pretrained

ROOT = pathlib.Path(__file__).parents[2]
SHARED = pathlib.Path(os.environ.get('MOBILENETS_JAX_SHARED', '../shared')).resolve()
IMAGES, WEIGHTS = SHARED / 'data' / 'imagenet_one_per_class.zip', SHARED / 'weights'
V1, V2 = 'keras_mobilenet_v1_0.25_224.h5', 'tflite_mobilenet_v2_1.0_224_quant.tflite'
V3_SMALL = 'tflite_mobilenet_v3_small_1.0_224_uint8.tflite'
CALIBRATED = 40  # images, the first of the sorted classes

pytestmark = pytest.mark.skipif(not (WEIGHTS.is_dir() and IMAGES.exists()), reason=f'{SHARED} does not have them')


@pytest.fixture(scope='module')
def folder(packages, tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    with zipfile.ZipFile(IMAGES) as archive:
        archive.extractall(folder)
    return folder


def test_int8_keeps_the_classes_of_a_small_network(folder):
    pretrained = load_pretrained(str(WEIGHTS / V1))
    paths = sorted(map(str, folder.glob('*/*')))[::20]
    pixels = np.stack([read_image(path, pretrained.card.preprocessing) for path in paths])
    found = export(trained_classifier(pretrained), 'int8', pixels).quantized_agreement
    assert found.images == 50
    assert found.same_class >= 85 and found.correlation >= 0.985  # without the correction of biases: 77 and 0.972


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'top1', 'same_class'),
    [
        (V1, 54.5, 88),
        (V2, 87.0, 97),
        (V3_SMALL, 74.0, 80),  # trained for 8 bit: it has 72 in float. Without the lifted channels: 4
    ],
)
def test_int8_keeps_the_accuracy(name, top1, same_class, folder):
    pretrained = load_pretrained(str(WEIGHTS / name))
    paths = sorted(map(str, folder.glob('*/*')))
    chosen = np.arange(CALIBRATED, 1000)
    preprocessing = pretrained.card.preprocessing
    calibration = np.stack([read_image(path, preprocessing) for path in paths[:CALIBRATED]])
    files = [
        LiteNetwork(export(trained_classifier(pretrained), mode, calibration).content, mode)
        for mode in ('none', 'int8')
    ]
    logits = [[], []]
    for label in chosen:
        image = np.asarray(normalize(read_image(paths[label], preprocessing)[None], preprocessing.normalization))
        for of_file, file in zip(logits, files, strict=True):
            of_file.append(file(image))
    of_float, of_int8 = map(np.concatenate, logits)
    assert agreement(of_float, of_int8).same_class >= same_class
    scores = [100 * np.mean(rows.argmax(axis=1) == chosen) for rows in (of_float, of_int8)]
    assert scores[1] >= top1 and scores[1] >= scores[0] - 1.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'options', 'top1', 'top5', 'within'),
    [
        # A float input has no range in the file.
        ('tflite_mobilenet_v1_0.25_224_float.tflite', ['--config.data.normalization=symmetric'], 55.4, 80.6, 0.2),
        (V2, [], 88.0, 97.4, 0.5),
    ],
)
def test_published_files_score_what_litert_gives_them(name, options, top1, top5, within, folder):
    command = [sys.executable, '-m', 'mobilenets_jax', 'evaluate_tflite', WEIGHTS / name, *options]
    command += ['--config.data.name=image_folder', f'--config.data.dir={folder}']
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=600)
    metrics = json.loads(ended.stdout.splitlines()[-1])
    assert metrics['count'] == 1000
    assert abs(metrics['top1'] - top1) <= within + 1e-9 and abs(metrics['top5'] - top5) <= within + 1e-9
