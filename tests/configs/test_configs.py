"""Every shipped config builds, says where it comes from, and sets nothing that no run reads."""

import ast
import dataclasses
import importlib.util
import math
import pathlib
import sys

import jax
import pytest

from mobilenets_jax import experiment
from mobilenets_jax.config import ConfigView
from mobilenets_jax.config_use import CONDITIONS, check_used, fields_in_use
from mobilenets_jax.data import SOURCES_OF_TASKS, fields_of_source
from mobilenets_jax.data.box_classes import BoxOptions
from mobilenets_jax.data.class_sets import MaskOptions
from mobilenets_jax.data.dataset import Dataset
from mobilenets_jax.data.detection_options import CocoIds, DetectionOptions
from mobilenets_jax.data.options import DataOptions
from mobilenets_jax.data.segmentation_options import SegmentationOptions
from mobilenets_jax.data.shapes_only import ShapesOnly
from mobilenets_jax.errors import UserError
from mobilenets_jax.tasks import TASKS
from mobilenets_jax.tasks.classification import Classification
from mobilenets_jax.tasks.detector import ANCHOR_FIELDS, HEAD_FIELDS, LOSS_FIELDS, NMS_FIELDS
from mobilenets_jax.training.state import num_params

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from configs import base  # noqa: E402

BASE, SAVED = ROOT / 'configs' / 'base.py', ROOT / 'configs' / 'saved.py'  # all other files are experiments
COMMON = set((ROOT / 'configs').rglob('common.py'))
CONFIGS = sorted(set((ROOT / 'configs').rglob('*.py')) - {BASE, SAVED} - COMMON)
HEADER = ('Paper:', 'Command:', 'Hardware:', 'Expected:', 'Status:')
STATUSES = ('reproduced here', 'ported', 'tried, not reached', 'not yet tried')

# Choices that together use every field; each is set to what the base config is not, as far as a field decides.
CHOICES = (
    {
        'num_steps': 10,
        'data.name': 'memory_folder',
        'data.dir': 'x',
        'optimizer.name': 'sgd',
        'schedule.name': 'polynomial',
    },
    {'num_steps': 10, 'schedule.decay_epochs': 1.0, 'data.random_erasing': 0.1, 'init_from': 'x', 'new_head': True},
    {'num_steps': 10, 'schedule.decay_epochs': 1.0, 'quantization.enabled': True},
    {'num_steps': 10, 'schedule.decay_epochs': 1.0, 'distillation.teacher': 'x'},
    {
        'num_epochs': 1.0,
        'data.name': 'image_folder',
        'data.dir': 'x',
        'data.auto_augment': 'randaugment',
        'data.eval_crop': 'resize_crop',
        'optimizer.name': 'adamw',
        'schedule.warmup_steps': 1,
        'schedule.decay_steps': 1,
        'weight_decay.rate': 1e-5,
    },
)

_RUN = {'num_steps': 10, 'data.dir': 'x', 'optimizer.name': 'sgd', 'schedule.name': 'polynomial'}
SEGMENTATION_CHOICES = (
    {**_RUN, 'data.name': 'mask_folder', 'data.classes': 'camvid', 'init_from': 'x', 'weight_decay.rate': 1e-5},
    {**_RUN, 'data.name': 'voc', 'segmentation.head': 'aspp', 'data.augmentation': 'torchvision'},
    {'num_epochs': 1.0, 'data.name': 'cityscapes', 'data.dir': 'x', 'schedule.decay_epochs': 1.0},
    {
        **_RUN,
        'data.name': 'cityscapes',
        'optimizer.name': 'adamw',
        'schedule.name': 'exponential',
        'schedule.decay_steps': 1,
        'schedule.warmup_steps': 1,
    },
)

DETECTION_CHOICES = (
    {**_RUN, 'data.name': 'coco', 'init_from': 'x', 'weight_decay.rate': 1e-5},
    {**_RUN, 'data.name': 'voc', 'detection.head': 'torchvision', 'detection.loss': 'tf_v2'},
    {
        'num_epochs': 1.0,
        'data.name': 'yolo',
        'data.dir': 'x',
        'optimizer.name': 'adamw',
        'schedule.warmup_steps': 1,
        'schedule.decay_steps': 1,
    },
    {
        **_RUN,
        'data.name': 'voc',
        'optimizer.name': 'rmsprop',
        'schedule.name': 'exponential',
        'schedule.decay_epochs': 1.0,
    },
)


class ImageNetStandIn(Dataset):
    """The sizes of ImageNet, no images."""

    def __init__(self, name, *, task, image_size, batch_size, seed, normalization, **options):
        assert task == 'classification'
        names = tuple(map(str, range(1000)))
        super().__init__(name, names, 1_281_167, 50_000, DataOptions(image_size, batch_size, seed, normalization))

    def _train_rows(self, layout, start):
        raise NotImplementedError

    def _eval_rows(self, layout):
        raise NotImplementedError


def load_module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(path):
    return load_module(path).get_config()


def training_run(path):
    """The fields of a training run, without those that a search has beside them."""
    return {name: value for name, value in load(path).to_dict().items() if name != 'search'}


@pytest.fixture(params=CONFIGS, ids=lambda path: path.relative_to(ROOT).as_posix())
def path(request):
    return request.param


def build(view) -> experiment.Experiment:
    """All parts of a run, as train.py builds them."""
    built = experiment.Experiment(view)
    built.abstract_state()
    built.train_step()
    built.evaluator()
    for name in ('keep_last', 'keep_best'):  # train.py hands these to the checkpoint manager
        assert view.checkpoint[name]
    return built


def create_stand_in(name, *, task, **choices):
    """A data set of known sizes for the task: ImageNet's, Cityscapes', or COCO's."""
    if task == 'classification':
        return ImageNetStandIn(name, task=task, **choices)
    kinds = (SegmentationOptions, MaskOptions) if task == 'segmentation' else (DetectionOptions, BoxOptions, CocoIds)
    options = [
        kind(**{field.name: choices[field.name] for field in dataclasses.fields(kind) if field.name in choices})
        for kind in kinds
    ]
    if task == 'segmentation':
        return ShapesOnly.of_segmentation('cityscapes', *options)
    return ShapesOnly.of_detection('coco', *options)


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr(experiment, 'create_dataset', create_stand_in)
    monkeypatch.setattr(Classification, 'create_teacher', lambda *args: None)  # its file is not there


def test_every_task_has_its_fields():
    base = load_module(BASE)
    assert set(base.TASK_FIELDS) == set(TASKS)
    assert {base.get_config(task).task for task in TASKS} == set(TASKS)
    with pytest.raises(UserError, match=r"^task='colouring' is unknown\. Known: classification"):
        base.get_config('colouring')


def test_builds_and_sets_nothing_without_effect(path, stand_in, capsys):
    view, devices = ConfigView(training_run(path)), jax.device_count()
    if view.to_dict()['batch_size'] % devices:  # a recipe for fewer devices than there are in the tests
        view = view.updated({'batch_size': devices})
    built = build(view)
    state = built.abstract_state()
    assert built.options.total_steps > 0
    assert {leaf.dtype.name for leaf in jax.tree.leaves((state.params, state.batch_stats))} == {'float32'}
    capsys.readouterr()  # building the native ops, once, says so
    check_used(view, {}, base.get_config(view['task']).to_dict())
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(
    ('task', 'choices'),
    [('classification', CHOICES), ('segmentation', SEGMENTATION_CHOICES), ('detection', DETECTION_CHOICES)],
)
def test_every_field_has_an_effect_with_some_choice(task, choices, stand_in):
    defaults = base.get_config(task).to_dict()
    dead = set(ConfigView(defaults).leaves())
    for choice in choices:
        view = ConfigView(defaults).updated(choice)
        build(view)
        check_used(view, choice, defaults)
        in_use = {f'config.{section}.{field}' for section in view for field in fields_of(view, section)}
        dead -= {path for path in set(view.leaves()) - set(view.unread()) if path in in_use or path.count('.') == 1}
    assert dead == set()


def fields_of(view, section):
    """The fields of a section that have an effect; none of a field that is no section."""
    return fields_in_use(view, section) if isinstance(view[section], ConfigView) else ()


def test_every_condition_is_about_fields_that_there_are():
    paths = {*CONDITIONS, *(decider for rows in CONDITIONS.values() for row in rows for decider in row.deciders)}
    leaves = [ConfigView(base.get_config(task).to_dict()).leaves() for task in TASKS]
    assert {f'config.{path}' for path in paths} <= set().union(*leaves)


@pytest.mark.parametrize('name', ['mask_folder', 'voc', 'cityscapes', 'tfds:cityscapes'])
def test_segmentation_data_have_the_fields_that_their_sources_use(name):
    """Each of them with the default of the source itself."""
    config = base.get_config('segmentation')
    assert SegmentationOptions(config.image_size, batch_size=8, seed=0).image_size == (513, 513)
    data = config.data
    fields = fields_of_source(name, 'segmentation')
    assert fields - {'image_size', 'batch_size', 'seed'} <= set(data.keys())
    assert fields - {'dir', 'train_split', 'eval_split'} >= {'classes', 'eval_size', 'augmentation', 'num_threads'}
    for kind in SOURCES_OF_TASKS['segmentation'][name]:
        for field in dataclasses.fields(kind):
            if field.name in data and field.default is not dataclasses.MISSING:
                assert data[field.name] == field.default, field.name


@pytest.mark.parametrize('name', ['coco', 'voc', 'yolo', 'tfds:coco/2017', 'tfds:voc/2007'])
def test_detection_data_have_the_fields_that_their_sources_use(name):
    """Each of them with the default of the source itself."""
    data = base.get_config('detection').data
    fields = fields_of_source(name, 'detection')
    assert fields - {'image_size', 'batch_size', 'seed'} <= set(data.keys())
    assert fields >= {'dir', 'class_names', 'max_boxes', 'augmentation', 'num_threads'}
    for kind in SOURCES_OF_TASKS['detection'][name.partition('/')[0]]:
        for field in dataclasses.fields(kind):
            if field.name in data and field.default is not dataclasses.MISSING:
                assert data[field.name] == field.default, field.name


def test_header_names_paper_command_and_status(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    fields = {line.split()[0]: line for line in text.splitlines() if line.startswith(HEADER)}
    assert set(fields) == set(HEADER)
    assert f'--config={path.relative_to(ROOT).as_posix()}' in fields['Command:'].split()[3:6]
    assert fields['Status:'].removeprefix('Status: ').rstrip('.') in STATUSES


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('alpha', 0.5, "has no effect with detection.classification='softmax'; it needs 'focal'"),
        ('loss', 'hinge', "detection.loss='hinge' is unknown"),
        ('head', 'yolo', "head='yolo' is unknown"),
        ('min_scale', 0.99, 'must be between 0 and detection.max_scale=0.95'),
        ('max_scale', 1.5, 'must be below 1'),
        ('iou_threshold', 60.0, 'detection.iou_threshold=60.0 must be in \\[0, 1\\]'),
        ('match_threshold', 0.0, 'detection.match_threshold=0.0 must be in'),
    ],
)
def test_wrong_value_of_a_detector_is_named(field, value, message, stand_in):
    config = load(ROOT / 'configs' / 'detection' / 'torchvision_v3_large.py')
    config.detection[field] = value
    with pytest.raises(UserError, match=message):
        experiment.Experiment(ConfigView(config.to_dict()))


def test_section_of_detectors_has_every_field_of_the_loss_and_of_the_suppression():
    fields = base.get_config('detection').detection
    assert {*LOSS_FIELDS, *NMS_FIELDS, *HEAD_FIELDS, *ANCHOR_FIELDS, 'head', 'loss'} == set(fields)
    assert not any(fields.values())  # each has the value that the head has


def test_anchors_of_a_head_without_scales_are_its_own(stand_in):
    config = load(ROOT / 'configs' / 'detection' / 'mobilenext.py')
    config.detection.min_scale = 0.1
    with pytest.raises(UserError, match="detection.min_scale=0.1 has no effect with the head 'mobilenext'"):
        experiment.Experiment(ConfigView(config.to_dict()))


@pytest.mark.parametrize(
    ('name', 'anchors', 'params', 'classes'),
    [
        ('ssdlite_v3_large', 2034, 3_248_255, 90),
        ('ssdlite_v3_small', 2034, 1_785_743, 90),
        ('torchvision_v3_large', 3234, 3_440_060, 90),
        ('mobilenext', 3232, None, 80),
    ],
)
def test_detection_recipes_have_the_published_networks(name, anchors, params, classes, stand_in):
    built = experiment.Experiment(ConfigView(load(ROOT / 'configs' / 'detection' / f'{name}.py').to_dict()))
    assert built.model.num_classes == classes
    assert built.model.anchors((320, 320)).shape == (anchors, 4)
    if params is not None:
        assert num_params(built.abstract_state().params) == params


@pytest.mark.parametrize(
    ('name', 'steps', 'rates'),
    [
        ('ssdlite_v3_large', 400_000, {0: 0.13333, 2000: 0.2 * (1 + math.cos(math.pi / 200)), 200_000: 0.2}),
        ('ssdlite_v3_small', 800_000, {0: 0.13333, 400_000: 0.2}),
        ('ssdlite_v2', 200_000, {0: 0.004, 199_999: 0.004}),
        ('ssdlite_v1', 200_000, {0: 0.004, 199_999: 0.004}),
        ('mobilenext', 200_000, {0: 0.01 / 3, 500: 0.01}),
    ],
)
def test_detection_schedules_by_hand(name, steps, rates, stand_in):
    built = experiment.Experiment(ConfigView(load(ROOT / 'configs' / 'detection' / f'{name}.py').to_dict()))
    assert built.options.total_steps == steps
    for step, rate in rates.items():
        assert float(built.schedule(step)) == pytest.approx(rate, rel=1e-4)


@pytest.mark.parametrize(
    ('name', 'steps', 'rates'),
    [
        # 312.78 steps an epoch, so 781 (2.5 epochs) and 938 (3 epochs) between decays and a warm-up of 1563.
        ('mobilenet_v1', 156_392, {781: 0.256 * 0.94**2 * 781 / 1563, 2346: 0.256 * 0.94**3}),
        ('mobilenet_v2', 156_392, {2346: 0.256 * 0.96**3}),
        ('mobilenet_v3_large', 312_784, {938 * 10: 0.1 * 0.99**10}),
        ('mobilenet_v3_small', 312_784, {0: 0.001, 938 * 10: 0.1 * 0.99**10}),
    ],
)
def test_imagenet_schedules_by_hand(name, steps, rates, stand_in):
    built = experiment.Experiment(ConfigView(load(ROOT / 'configs' / 'imagenet' / f'{name}.py').to_dict()))
    assert built.options.total_steps == steps
    assert built.batch_size == 32 * 128
    for step, rate in rates.items():
        assert float(built.schedule(step)) == pytest.approx(rate, rel=1e-4)
