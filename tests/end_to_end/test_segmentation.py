"""Segmentation by train.py and eval.py: resumed and measured exactly on any devices, supported by every command."""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from launching import ROOT, coordinates
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / 'data'))
from masks import write_camvid  # noqa: E402

CONFIG = ROOT / 'configs' / 'segmentation' / 'camvid.py'
MODEL = ('--config.model.name=mobilenet_v3_small', '--config.model.width_multiplier=0.35')
SMALL = (
    f'--config={CONFIG}',
    *MODEL,
    '--config.batch_size=8',
    '--config.image_size=(40,48)',
    '--config.num_epochs=None',
    '--config.num_steps=4',
    '--config.evaluation.every_epochs=None',
    '--config.checkpoint.every_epochs=None',
    '--config.checkpoint.every_steps=2',
    '--config.data.eval_size=(41,61)',
    '--config.segmentation.eval_scales=(1.0,1.5)',
    '--config.segmentation.eval_flip=True',
)


@pytest.fixture
def images(made_once):
    return made_once('camvid', write_camvid)


@pytest.fixture
def run(images, made_once, launcher):
    """A finished run, and what it said."""

    def make(folder):
        flags = (f'--workdir={folder / "w"}', f'--config.data.dir={images}')
        ended = launcher.start(ROOT / 'train.py', *SMALL, *flags).end()
        assert ended.status == 0, ended
        (folder / 'said.txt').write_text('\n'.join(ended.output))

    folder = made_once('segmentation_run', make)
    return folder / 'w', (folder / 'said.txt').read_text().splitlines()


@pytest.fixture
def results(run, images, commands_on_run):
    """A folder, in `w` of which a run goes on from the first checkpoint of `run`, and the result of each command."""
    workdir, _ = run
    commands = {
        'go on': f'train.py {" ".join(SMALL)} --config.data.dir={images} --workdir=FOLDER/w',
        'predict': f'mobilenets_jax/__main__.py predict {" ".join(map(str, sorted((images / "val").iterdir())))} '
        f'{images}/test/080.jpg --workdir={workdir} --masks=FOLDER/masks --out=FOLDER/seen.png --json',
    }

    return commands_on_run('segmentation_commands', workdir / 'checkpoints' / '2', commands)


def summary(workdir):
    return json.loads((workdir / 'summary.json').read_text())


def test_a_run_says_and_keeps_the_metrics_of_its_task(run):
    workdir, output = run
    line = r'step 4/4  evaluation: mIoU \S+ %  pixel accuracy \S+ %  loss \S+  \(5 examples\)'
    assert any(re.fullmatch(line, said) for said in output)
    found = summary(workdir)
    assert 0 < found['test_miou'] < 100 and found['test_count'] == 5
    assert (workdir / 'curves.png').stat().st_size > 0


def test_resumed_run_ends_like_one_that_never_stopped(run, results):
    folder, by_command = results
    assert any('going on from the checkpoint of step 2' in line for line in by_command['go on']['output'])
    one, other = summary(run[0]), summary(folder / 'w')
    for name in ('params_sha256', 'ema_sha256', 'test_miou', 'test_pixel_accuracy', 'test_loss'):
        assert one[name] == other[name], name


@pytest.mark.slow  # a fresh head for other classes: of a classifier in the fast tests
def test_run_starts_from_the_backbone_of_another_with_a_fresh_head(run, images, tmp_path, launcher):
    """Other classes, so that no head would fit; averages are kept from the first step on."""
    workdir, _ = run
    names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l']
    flags = (f'--config.init_from={workdir}', '--config.new_head=True', '--config.num_steps=1')
    flags += (f'--config.data.class_names={tuple(names)}', '--config.data.classes=')
    flags += ('--config.segmentation.class_weights=()',)
    command = (*SMALL, *flags, f'--workdir={tmp_path / "w"}', f'--config.data.dir={images}')
    ended = launcher.start(ROOT / 'train.py', *command).end()
    assert ended.status == 0, ended
    assert summary(tmp_path / 'w')['num_params'] > summary(workdir)['num_params']  # twelve classes for eleven


@pytest.mark.parametrize(('processes', 'devices'), [pytest.param(1, 1, marks=pytest.mark.slow), (1, 8), (2, 1)])
def test_confusion_is_the_same_on_any_devices(processes, devices, run, tmp_path, launcher):
    """The run measured five images on one device; they do not divide over eight of them, nor over two processes."""
    workdir, _ = run
    flags = coordinates(processes) if processes > 1 else [[]]
    command = (ROOT / 'eval.py', f'--workdir={workdir}', f'--report={tmp_path}')
    ended = [process.end() for process in [launcher.start(*command, *own, devices=devices) for own in flags]]
    assert [process.status for process in ended] == [0] * processes, ended
    metrics = json.loads(ended[0].output[-1])
    expected = summary(workdir)
    for name in ('miou', 'pixel_accuracy'):
        assert metrics[name] == expected[f'test_{name}'], name
    with (tmp_path / 'confusion.csv').open() as file:
        rows = np.array([[int(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]])
    assert rows.shape == (11, 11)
    assert metrics['pixel_accuracy'] == pytest.approx(100 * np.trace(rows) / rows.sum(), rel=1e-12)
    assert len((tmp_path / 'images.csv').read_text().splitlines()) == 6
    assert (tmp_path / 'per_class.csv').exists() and (tmp_path / 'confusion.png').stat().st_size > 0


def test_predicted_masks_have_the_size_of_their_images_and_the_classes_colours(results):
    folder, by_command = results
    rows = json.loads('\n'.join(by_command['predict']['output']))
    mask = Image.open(folder / 'masks' / '080.png')
    assert mask.mode == 'P' and mask.size == (60, 40)
    assert mask.getpalette()[:3] == [128, 128, 128]  # CamVid's sky
    counts = np.bincount(np.asarray(mask).ravel(), minlength=11)
    assert rows[-1]['size'] == [40, 60]
    assert {entry['class']: entry['share'] for entry in rows[-1]['classes']} == {
        label: count / 2400 for label, count in enumerate(counts.tolist()) if count
    }
    assert (folder / 'seen.png').stat().st_size > 0


def test_predicted_masks_agree_with_the_evaluation(run, images, results):
    """With its scales and flips: pixel by pixel as often right as eval.py says."""
    workdir, _ = run
    folder, _ = results
    right = total = 0
    for picture in (images / 'val').iterdir():
        labels = np.asarray(Image.open(images / 'valannot' / f'{picture.stem}.png'))
        found = np.asarray(Image.open(folder / 'masks' / f'{picture.stem}.png'))
        right, total = right + ((found == labels) & (labels < 11)).sum(), total + (labels < 11).sum()
    assert 100 * right / total == pytest.approx(summary(workdir)['test_pixel_accuracy'], abs=0.05)
