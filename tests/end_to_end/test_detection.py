"""Detection by train.py and eval.py: resumed and measured exactly on any devices, supported by every command."""

import csv
import json
import os
import re
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from launching import ROOT, coordinates
from PIL import Image

from mobilenets_jax.weights.trained import read_trained

sys.path.append(str(Path(__file__).parents[1] / 'data'))
from boxes import CLASSES, write_voc  # noqa: E402

CONFIG = ROOT / 'configs' / 'detection' / 'bccd.py'
SMALL = (
    f'--config={CONFIG}',
    '--config.model.name=mobilenet_v3_small',
    '--config.model.width_multiplier=0.35',
    '--config.batch_size=8',
    '--config.image_size=(48,72)',
    '--config.num_epochs=None',
    '--config.num_steps=80',
    '--config.evaluation.every_epochs=None',
    '--config.checkpoint.every_epochs=None',
    '--config.checkpoint.every_steps=40',
    # It is measured on what it learns, of which it finds something soon.
    '--config.data.eval_split=train',
    '--config.data.color_distortion=none',
    '--config.schedule.learning_rate=0.05',
    '--config.ema.decay=0.9',
)
ALL_CLASSES = f'--config.data.class_names={CLASSES}'.replace(' ', '')
SHARED = Path(os.environ.get('MOBILENETS_JAX_SHARED', '../shared')).resolve()
COCO = SHARED / 'data' / 'coco_val2017_92.zip'
# File, classes of the data that it is measured on, and AP and AP50 of LiteRT.
PUBLISHED = [
    ('ssdlite_mobilenet_v2_voc_300_integer_quant_with_postprocess.tflite', 'voc', 27.3, 42.1),
    ('coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite', '', 28.6, 44.6),
]
METRICS = ('ap', 'ap50', 'ap75', 'ar1', 'ar10', 'ar100', 'ap_small', 'voc07_ap50', 'voc_ap50')


@pytest.fixture
def images(made_once):
    return made_once('voc', write_voc_below)


def write_voc_below(folder):
    """Nine images to learn, five to measure, with one to four boxes each."""
    write_voc(folder)


@pytest.fixture
def run(images, made_once, launcher):
    """A finished run, and what it said."""

    def make(folder):
        flags = (f'--workdir={folder / "w"}', f'--config.data.dir={images}')
        ended = launcher.start(ROOT / 'train.py', *SMALL, ALL_CLASSES, *flags).end()
        assert ended.status == 0, ended
        (folder / 'said.txt').write_text('\n'.join(ended.output))

    folder = made_once('detection_run', make)
    return folder / 'w', (folder / 'said.txt').read_text().splitlines()


@pytest.fixture
def results(run, images, commands_on_run):
    """A folder, in `w` of which a run goes on from the first checkpoint of `run`, and the result of each command."""
    workdir, _ = run
    train = ' '.join((*SMALL, ALL_CLASSES, f'--config.data.dir={images}'))
    commands = {
        'go on': f'train.py {train} --workdir=FOLDER/w',
        'predict': f'mobilenets_jax/__main__.py predict {images}/JPEGImages/004.jpg --workdir={workdir} '
        '--out=FOLDER/seen.png --min_score=0.02 --top=2 --json',
        'inspect': f'mobilenets_jax/__main__.py inspect {train} --out=FOLDER/batch.png --images=8'.replace(
            '--config.batch_size=8 ', ''
        ),
    }

    return commands_on_run('detection_commands', workdir / 'checkpoints' / '40', commands)


def summary(workdir):
    return json.loads((workdir / 'summary.json').read_text())


def test_a_run_says_and_keeps_the_metrics_of_its_task(run):
    workdir, output = run
    line = r'step 80/80  evaluation: AP \S+ %  AP50 \S+ %  AP75 \S+ %  AR100 \S+ %  \(9 examples\)'
    assert any(re.fullmatch(line, said) for said in output)
    assert any(' matched/image ' in said and ' boxes/image ' in said for said in output)
    found = summary(workdir)
    assert found['test_ap_large'] is None and found['test_count'] == 9  # no box has 96 x 96 pixels
    assert (workdir / 'curves.png').stat().st_size > 0


def test_resumed_run_ends_like_one_that_never_stopped(run, results):
    folder, by_command = results
    assert any('going on from the checkpoint of step 40' in line for line in by_command['go on']['output'])
    one, other = summary(run[0]), summary(folder / 'w')
    for name in ('params_sha256', 'ema_sha256', *(f'test_{name}' for name in METRICS)):
        assert one[name] == other[name], name


@pytest.mark.slow
def test_run_starts_from_a_detector_of_other_classes(run, images, tmp_path, launcher):
    """Only the layers of the classes are initialised again: two classes instead of three."""
    workdir, _ = run
    flags = (f'--config.init_from={workdir}', '--config.new_head=True', '--config.num_steps=1')
    flags += (f'--config.data.class_names={CLASSES[:2]}', '--config.data.dir=' + str(images))
    ended = launcher.start(ROOT / 'train.py', *SMALL, *flags, f'--workdir={tmp_path / "w"}').end()
    assert ended.status == 0, ended
    assert any(' of other classes ' in line for line in ended.errors)  # the third one's
    weights = [
        read_trained(str(folder), 'x', params='raw').variables['params']['head'] for folder in (workdir, tmp_path / 'w')
    ]
    for one, other in zip(*(jax.tree.leaves(head['boxes0']) for head in weights), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-2)
    kernels = [head['classes0']['project']['kernel'] for head in weights]
    assert kernels[0].shape[-1] == 3 * 4 and kernels[1].shape[-1] == 3 * 3


@pytest.mark.parametrize(('processes', 'devices'), [pytest.param(1, 2, marks=pytest.mark.slow), (1, 8), (2, 1)])
def test_average_precision_is_the_same_on_any_devices(processes, devices, run, tmp_path, launcher):
    """The run measured nine images on one device; they do not divide over any of these."""
    workdir, _ = run
    flags = coordinates(processes) if processes > 1 else [[]]
    command = (ROOT / 'eval.py', f'--workdir={workdir}', f'--report={tmp_path}')
    ended = [process.end() for process in [launcher.start(*command, *own, devices=devices) for own in flags]]
    assert [process.status for process in ended] == [0] * processes, ended
    metrics, expected = json.loads(ended[0].output[-1]), summary(workdir)
    assert metrics['voc_ap50'] > 0 and metrics['ap'] > 0
    for name in METRICS:
        assert metrics[name] == expected[f'test_{name}'], name
    with (tmp_path / 'per_class.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['class'] for row in rows] == list(CLASSES)
    assert np.mean([float(row['ap']) for row in rows]) == pytest.approx(metrics['ap'], abs=0.01)
    assert len((tmp_path / 'images.csv').read_text().splitlines()) == 10
    assert len(json.loads((tmp_path / 'detections.json').read_text())) > 9
    assert Image.open(tmp_path / 'pictures.png').size[0] == 1000


def test_predicted_boxes_are_in_pixels_of_their_image(results):
    folder, by_command = results
    (row,) = json.loads('\n'.join(by_command['predict']['output']))
    assert row['size'] == [40, 60] and 1 <= len(row['objects']) <= 2
    scores = [entry['score'] for entry in row['objects']]
    assert scores == sorted(scores, reverse=True) and min(scores) >= 0.02
    for entry in row['objects']:
        left, top, right, bottom = entry['box']
        assert 0 <= left <= right <= 60 and 0 <= top <= bottom <= 40
        assert entry['name'] == CLASSES[entry['class']]
    assert (folder / 'seen.png').stat().st_size > 0


def test_batch_is_shown_with_its_boxes_and_the_anchors_that_they_match(results):
    folder, by_command = results
    line = r'boxes: \d\.\d an image, \d at most of 3, none in \d of 8 images; anchors: \d+, matched \d+\.\d an image'
    assert any(re.fullmatch(line, said) for said in by_command['inspect']['output'])
    assert (folder / 'batch.png').stat().st_size > 0


@pytest.mark.slow
@pytest.mark.skipif(not COCO.exists(), reason=f'{COCO} is missing')
@pytest.mark.parametrize(('file', 'classes', 'ap', 'ap50'), PUBLISHED)
def test_published_weights_score_what_litert_scores_with_them(file, classes, ap, ap50, tmp_path, launcher):
    """On 92 images of COCO val2017; the files are of 8 bits, and are read in float here."""
    with zipfile.ZipFile(COCO) as archive:
        archive.extractall(tmp_path)
    places = (f'--config.data.dir={tmp_path}', '--config.data.annotation_file=instances.json')
    places += ('--config.data.name=coco', '--config.data.image_dir=images')
    places += (f'--config.data.classes={classes}',) if classes else ()
    ended = launcher.start(ROOT / 'eval.py', f'--weights={SHARED / "weights" / file}', *places).end()
    assert ended.status == 0, ended
    metrics = json.loads(ended.output[-1])
    assert metrics['count'] == 92 and metrics['resize'] == 'legacy'
    assert metrics['ap'] == pytest.approx(ap, abs=2) and metrics['ap50'] == pytest.approx(ap50, abs=2)
