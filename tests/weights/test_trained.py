"""A trained network in use: `load_pretrained` and `predict` of a workdir give what its evaluation computes."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from mobilenets_jax.__main__ import main
from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.data import Layout, create_dataset, digits
from mobilenets_jax.errors import UserError
from mobilenets_jax.identity import Identity, network_fields
from mobilenets_jax.models import create_model
from mobilenets_jax.tasks.image_files import read_image
from mobilenets_jax.weights import load_pretrained
from mobilenets_jax.weights.init_from import config_fields, starting_point

SIZE = 32
CONFIG = {
    'image_size': SIZE,
    'model': {'name': 'mobilenet_v1', 'width_multiplier': 0.25, 'convention': 'tf', 'output_stride': 16},
    'data': {'name': 'digits', 'normalization': 'unit', 'eval_crop': 'central_fraction', 'crop_fraction': 0.5},
}
NAMES = tuple('0123456789')


@functools.cache
def draw_variables(seed):
    model = create_model('mobilenet_v1', 10, 0.25, output_stride=16)
    images = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), np.float32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)
    generator = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key in ('scale', 'var'):
            return generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 16
        return (generator.standard_normal(leaf.shape) * np.sqrt(2 / fan_in)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, dict(shapes))


def save(workdir, config=CONFIG, names=NAMES, metrics=((5, 70.0), (10, None)), averages=True, keep_last=3):
    """Saves raw parameters of seed STEP, and averages of seed STEP + 1."""
    identity = Identity(fields=network_fields(config) | {'num_classes': 10}, class_names=names)
    with CheckpointManager(workdir / 'checkpoints', identity=identity, keep_last=keep_last) as checkpoints:
        for step, metric in metrics:
            state = dict(draw_variables(step))
            if averages:
                state |= {f'ema_{name}': tree for name, tree in draw_variables(step + 1).items()}
            checkpoints.save(step, state, meta={'config': config}, metric=metric)
    return workdir


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    return save(tmp_path_factory.mktemp('run'))


def same(variables, seed):
    leaves = zip(jax.tree.leaves(variables), jax.tree.leaves(draw_variables(seed)), strict=True)
    return all(np.array_equal(one, other) for one, other in leaves)


@pytest.mark.parametrize(
    ('source', 'fields', 'seed'),
    [
        ('', {}, 11),
        ('', {'params': 'raw'}, 10),
        ('', {'step': 5}, 6),
        ('', {'step': 'best'}, 6),
        ('checkpoints', {'params': 'ema'}, 11),
        ('checkpoints/5', {'params': 'raw'}, 5),
    ],
)
def test_the_parameters_are_those_asked_for(source, fields, seed, workdir):
    assert same(load_pretrained(str(workdir / source), **fields).variables, seed)


def test_a_run_without_averages_gives_its_raw_parameters(tmp_path):
    save(tmp_path, averages=False)
    assert same(load_pretrained(str(tmp_path), params='ema').variables, 10)


def test_the_network_and_its_input_are_those_of_the_checkpoint(workdir, tmp_path):
    model, _, card = load_pretrained(str(workdir))
    assert (card.model, card.width_multiplier, card.convention) == ('mobilenet_v1', 0.25, 'tf')
    assert (model.num_classes, model.output_stride, model.settings.padding) == (10, 16, 'same')
    assert load_pretrained(str(workdir)).class_names == list(NAMES)
    # Images in memory are taken whole: the run's crop has no effect on them.
    asked = card.preprocessing
    assert (asked.image_size, asked.normalization, asked.crop_fraction) == (SIZE, 'unit', 1.0)
    data = CONFIG['data'] | {'name': 'image_folder', 'eval_crop': 'rounded_resize_crop', 'interpolation': 'bicubic'}
    changed = CONFIG | {'data': data, 'model': CONFIG['model'] | {'activation': 'relu6', 'dtype': 'bfloat16'}}
    save(tmp_path, changed)
    model, _, card = load_pretrained(str(tmp_path), image_size=48)
    asked = card.preprocessing
    assert (asked.crop, asked.crop_fraction, asked.interpolation) == ('rounded_resize_crop', 0.5, 'bicubic')
    assert asked.image_size == 48 and card.fields == {'activation': 'relu6'}
    assert model.settings.dtype.name == 'bfloat16'
    assert config_fields(load_pretrained(str(tmp_path)))['model.dtype'] == 'bfloat16'


def test_digits_are_predicted_as_they_are_evaluated(workdir, tmp_path, capsys):
    """Files of 8x8 pixels, in the command, against the batches of the evaluation, but for the rounding of a pixel."""
    _, images, _, _ = digits.load_split()
    paths = [tmp_path / f'{number}.png' for number in range(5)]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(np.rint(image * 255 / 16).astype(np.uint8)).save(path)
    assert main(['predict', f'--workdir={workdir}', '--top=10', '--json', *map(str, paths)]) == 0
    said = json.loads(capsys.readouterr().out)
    dataset = create_dataset('digits', image_size=SIZE, batch_size=5, seed=0, normalization='unit')
    batch = next(dataset.eval_batches(Layout(0, 1, 1)))
    model, variables, card = load_pretrained(str(workdir))
    for path, image in zip(paths, batch['image'][0], strict=True):
        pixels = read_image(str(path), card.preprocessing)
        assert np.abs(pixels.astype(int) - image).max() <= 1
    seen = dataset.device_preprocess({'image': batch['image'][0]}, train=False)
    expected = jax.nn.softmax(jax.jit(functools.partial(model.apply, train=False))(variables, seen)[0])
    assert np.ptp(expected, axis=0).max() > 1e-3
    for row, probabilities in zip(said, np.asarray(expected), strict=True):
        assert {entry['name'] for entry in row['classes']} == set(NAMES)
        for entry in row['classes']:
            assert entry['probability'] == pytest.approx(probabilities[int(entry['name'])], rel=1e-3)


def test_names_and_outputs_may_differ_in_number(tmp_path, capsys):
    save(tmp_path, names=('ant', 'bee'))
    assert load_pretrained(str(tmp_path)).class_names == ['ant', 'bee', *(f'class {index}' for index in range(2, 10))]
    assert load_pretrained(str(tmp_path), num_classes=3).class_names == ['class 0', 'class 1', 'class 2']
    assert 'its classifier is left out: a new one takes its place.' in capsys.readouterr().err


def test_a_run_starts_from_one_step_of_another_with_its_classes(workdir):
    start = starting_point(str(workdir / 'checkpoints' / '5'), {})
    assert same(start.variables, 6) and start.class_names == NAMES


def test_what_does_not_fit_is_one_line(workdir, tmp_path, capsys):
    (tmp_path / 'empty' / 'checkpoints').mkdir(parents=True)
    shutil.copytree(workdir / 'checkpoints' / '10', tmp_path / 'nothing' / 'checkpoints' / '10')
    (tmp_path / 'photo.png').write_bytes(b'')
    for source, fields, message in (
        (workdir, {'step': 7}, r'step=7 is not in .*/checkpoints\. Known: 5, 10\.'),
        (workdir, {'step': 'last'}, r"step='last' is neither a number nor 'best'\."),
        (workdir, {'params': 'mean'}, r"params='mean' is unknown\. Known: ema, raw\."),
        (workdir, {'convention': 'keras'}, r"convention='keras' is not that of weights='.*', which has 'tf'\."),
        (workdir, {'model': 'mobilenet_v2'}, r"model='mobilenet_v2' is not that of .*, which has 'mobilenet_v1'\."),
        (workdir, {'normalization': 'symmetric'}, r"normalization='symmetric' is not that of .*, which has 'unit'\."),
        (tmp_path / 'empty', {}, r"weights='.*' holds no checkpoint; it must be a workdir, or a file of weights\."),
        (tmp_path / 'nothing', {'step': 'best'}, r"step='best': no checkpoint in .* has a metric\. Known: 10\."),
        (tmp_path / 'photo.png', {'step': 'best'}, r"step='best' is of a run, which weights='.*' is not\."),
        (tmp_path / 'absent', {}, r"weights='.*': there is no such file or checkpoint\."),
    ):
        with pytest.raises(UserError, match=f'^{message}$'):
            load_pretrained(str(source), **fields)
    for arguments, message in (
        ([f'--workdir={tmp_path}'], f"error: --workdir='{tmp_path}' holds no checkpoint."),
        ([f'--workdir={workdir}', '--step=first'], "error: --step='first' is neither a number nor 'best'."),
        ([f'--workdir={workdir}', '--step=-5'], "error: --step='-5' is neither a number nor 'best'."),
    ):
        assert main(['predict', str(tmp_path / 'photo.png'), *arguments]) == 2
        assert capsys.readouterr().err == f'{message}\n'
