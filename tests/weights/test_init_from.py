"""A run that starts from weights: what it takes, what it refuses, which parameters stay, and what folding costs."""

import functools
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import quick_compile
import weight_files
from source_arrays import source_arrays

from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.errors import UserError
from mobilenets_jax.identity import Identity, network_fields
from mobilenets_jax.models import create_model
from mobilenets_jax.trees import named_leaves
from mobilenets_jax.weights import load_pretrained
from mobilenets_jax.weights.folding import unfold_batch_norms
from mobilenets_jax.weights.init_from import (
    ALL_BUT_BACKBONE,
    DETECTION_HEAD,
    StartingPoint,
    describe_replaced,
    fit,
    starting_point,
)

ROOT = pathlib.Path(__file__).parents[2]


def zeros(shape):
    return np.zeros(shape, np.float32)


def tree(classes, width=3):
    head = {'kernel': zeros((4, classes)) + 1, 'bias': zeros(classes) + 1}
    return {
        'params': {'backbone': {'kernel': zeros((width, 4)) + 1}, 'logits': head},
        'batch_stats': {'mean': zeros(2)},
    }


def test_fit_takes_all_or_refuses():
    fitted = fit(tree(10), tree(10), "init_from='file'")
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(fitted), jax.tree.leaves(tree(10)), strict=True))
    with pytest.raises(
        UserError,
        match=r"^init_from='file' has float32\[3, 4\] at params/backbone/kernel; the config asks for float32\[5",
    ):
        fit(tree(10), tree(10, width=5), "init_from='file'")
    with pytest.raises(UserError, match='With new_head=True the classifier starts afresh'):
        fit(tree(1000), tree(10), "init_from='file'")
    fitted = fit(tree(1000), tree(10), "init_from='file'", new_head=True)
    assert fitted['params']['logits']['kernel'].shape == (4, 10) and not fitted['params']['logits']['kernel'].any()
    assert fitted['params']['backbone']['kernel'].all()


def network(head, blocks=('block01',)):
    """Every leaf of a network of some blocks has its own value, which shows where it comes from."""
    leaf = {name: zeros((3, 4)) + number for number, name in enumerate(blocks, 1)}
    return {
        'params': {'backbone': leaf, **head},
        'batch_stats': {
            'backbone': jax.tree.map(lambda x: 10 * x, leaf),
            **{name: {'mean': zeros(2)} for name in head},
        },
    }


def detector(classes, value, extra=2):
    """The parts of a detector's head, all of one value."""
    head = {
        'extra1': {'kernel': zeros((extra, 2)) + value},
        'boxes0': {'project': {'kernel': zeros((2, 4)) + value}},
        'classes0': {'depthwise': {'kernel': zeros(2) + value}, 'project': {'kernel': zeros((2, classes)) + value}},
    }
    return network({'head': head})


def test_a_detector_of_other_classes_keeps_all_but_the_layers_of_the_classes():
    options = {'head': DETECTION_HEAD, 'new_head': True}
    fitted = fit(detector(20, 1.0), detector(3, 7.0), "init_from='file'", **options)
    head = jax.tree.map(lambda x: float(x.flat[0]), fitted['params']['head'])
    assert head == {
        'extra1': {'kernel': 1.0},
        'boxes0': {'project': {'kernel': 1.0}},
        'classes0': {'depthwise': {'kernel': 1.0}, 'project': {'kernel': 7.0}},
    }
    assert fitted['params']['head']['classes0']['project']['kernel'].shape == (2, 3)
    # Other extra layers are another head, of which nothing is kept; a classifier has none.
    classifier = network({'logits': zeros(5)})
    for weights in (detector(20, 1.0, extra=3), classifier):
        fitted = fit(weights, detector(3, 7.0), "init_from='file'", **options)
        assert {float(leaf.flat[0]) for leaf in jax.tree.leaves(fitted['params']['head'])} == {7.0}
        assert fitted['params']['backbone']['block01'].all()


def test_a_head_of_another_task_starts_as_it_is_drawn_on_the_backbone_of_the_weights(capsys):
    classifier = network({'pre_logits': zeros(5), 'logits': zeros(5)}, ('block01', 'head_conv'))
    drawn = network({'aspp': {'kernel': zeros((2, 2)) + 7}})
    fresh = jax.tree.map(lambda x: x + 0.5, drawn)
    fitted = fit(classifier, fresh, "init_from='file'", head=ALL_BUT_BACKBONE, new_head=True)
    assert jax.tree.map(lambda x: float(x.flat[0]), fitted) == {
        'params': {'backbone': {'block01': 1.0}, 'aspp': {'kernel': 7.5}},
        'batch_stats': {'backbone': {'block01': 10.0}, 'aspp': {'mean': 0.5}},
    }
    assert capsys.readouterr().err == (
        "init_from='file': 2 array(s) that the network does not have are left out, "
        'e.g. batch_stats/backbone/head_conv\n'
    )
    with pytest.raises(UserError, match='has nothing at batch_stats/aspp/mean; .* With new_head=True the head starts'):
        fit(network({}), fresh, "init_from='file'", head=ALL_BUT_BACKBONE)
    deeper = network({'aspp': {'kernel': zeros((2, 2))}}, ('block01', 'block02'))
    with pytest.raises(UserError, match='has nothing at batch_stats/backbone/block02; the config asks for float32'):
        fit(classifier, deeper, "init_from='file'", head=ALL_BUT_BACKBONE, new_head=True)


def test_unfolded_batch_norms_change_nothing_and_fit_the_images():
    """The outputs stay; with batch statistics, which training uses, they are the same too."""
    model = create_model('mobilenet_v1', 5, 0.25, dropout_rate=0.0)
    images = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images)
    identity = jax.tree.map(np.zeros_like, variables['batch_stats'])
    variables['batch_stats'] = jax.tree.map_with_path(
        lambda path, leaf: leaf + (1 - model.settings.bn_epsilon if path[-1].key == 'var' else 0), identity
    )

    @functools.partial(jax.jit, static_argnames='train')
    def logits(variables, train):
        return model.apply(variables, images, train=train, mutable=['batch_stats'])[0][0]

    expected = logits(variables, train=False)
    unfolded = unfold_batch_norms(model, variables, images)
    assert jax.tree.map(np.shape, unfolded) == jax.tree.map(np.shape, variables)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(logits(unfolded, train=False), expected, atol=1e-4 * scale)
    np.testing.assert_allclose(logits(unfolded, train=True), expected, atol=1e-3 * scale)
    assert np.abs(logits(variables, train=True) - expected).max() > 0.1 * scale
    for layer in unfolded['params']['backbone'].values():  # filters as large as fresh ones, which a step turns as far
        for kernel in (part['conv']['kernel'] for part in ([layer] if 'conv' in layer else layer.values())):
            np.testing.assert_allclose(np.sum(np.square(kernel), axis=(0, 1, 2)), 2.0, rtol=1e-5)


def test_the_network_comes_with_the_weights(tmp_path):
    _, arrays = source_arrays('timm', 'mobilenet_v2', 0.1)
    weight_files.write_safetensors(tmp_path / 'weights.safetensors', arrays)
    source = str(tmp_path / 'weights.safetensors')
    start = starting_point(source, {'data.normalization': 'symmetric'})
    assert start.fields == {
        'model.name': 'mobilenet_v2',
        'model.table': '',
        'model.width_multiplier': 0.1,
        'model.convention': 'timm',
        'model.tail': 'full',
        'model.num_removed_strides': 0,
        'model.output_stride': 32,
        'model.bn_epsilon': 1e-5,
        'model.divisor': 8,
        'model.padding': 'symmetric',
        'model.activation': None,
    }
    assert not start.folded and (start.class_names, start.task) == ((), 'classification')
    # The head of another task has an output stride of its own, in which all kernels have the same shapes.
    other = starting_point(source, {'data.normalization': 'symmetric'}, head=ALL_BUT_BACKBONE, new_head=True)
    assert start.fields == other.fields | {'model.output_stride': 32} and 'model.output_stride' not in other.fields


def test_with_a_new_head_the_weights_need_none(tmp_path):
    _, arrays = source_arrays('timm', 'mobilenet_v2', 0.1, num_classes=7)
    arrays = {name: array for name, array in arrays.items() if not name.startswith('classifier')}
    weight_files.write_safetensors(tmp_path / 'weights.safetensors', arrays)
    with pytest.raises(UserError, match=r'it has no classifier: .*new_head=True of a training run, gives it a new one'):
        starting_point(str(tmp_path / 'weights.safetensors'), {})
    start = starting_point(str(tmp_path / 'weights.safetensors'), {}, new_head=True)
    model = create_model('mobilenet_v2', 3, 0.1, 'timm')
    target = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), zeros((1, 32, 32, 3)))
    fitted = fit(start.variables, target, "init_from='file'", new_head=True)
    assert fitted['params']['logits']['kernel'].shape == (1280, 3)


RUN_CONFIG = {
    'model': {'name': 'mobilenet_v1', 'width_multiplier': 0.5, 'convention': 'tf', 'num_removed_strides': 2},
    'data': {'normalization': 'unit'},
}
RUN_FIELDS = {
    'model.name': 'mobilenet_v1',
    'model.table': '',
    'model.width_multiplier': 0.5,
    'model.convention': 'tf',
    'model.tail': 'full',
    'model.num_removed_strides': 2,
    'model.output_stride': 32,
    'model.bn_epsilon': 1e-3,
    'model.divisor': 8,
    'model.padding': 'same',
    'model.activation': None,
    'data.normalization': 'unit',
}


def save_run(workdir, identity):
    state = {'params': {'w': zeros(2)}, 'batch_stats': {'m': zeros(3)}, 'ema_params': {'w': zeros(2) + 1}}
    with CheckpointManager(workdir / 'checkpoints', identity=identity) as checkpoints:
        checkpoints.save(3, state, meta={'config': RUN_CONFIG})


def test_a_checkpoint_gives_its_averages_its_network_and_its_classes(tmp_path):
    fields = network_fields(RUN_CONFIG) | {'num_classes': 2}
    save_run(tmp_path, Identity(fields=fields, class_names=('ant', 'bee')))
    start = starting_point(str(tmp_path), {'model.output_stride': 16})
    assert named_leaves(start.variables)['params/w'].tolist() == [1, 1]
    assert start.variables['batch_stats']['m'].shape == (3,)
    assert start.fields == {path: value for path, value in RUN_FIELDS.items() if path != 'model.output_stride'}
    assert start.class_names == ('ant', 'bee')


def test_an_older_checkpoint_gives_the_network_of_its_config(tmp_path):
    class Older:
        def to_json(self):
            return {'model': 'mobilenet_v1', 'num_classes': 2, 'width_multiplier': 0.5, 'convention': 'tf'}

    save_run(tmp_path, Older())
    start = starting_point(str(tmp_path), {})
    assert (start.fields, start.class_names) == (RUN_FIELDS, None)


def test_fields_of_the_config_file_that_are_replaced_are_named():
    start = StartingPoint({}, {'model.name': 'a', 'model.num_removed_strides': 2, 'model.output_stride': 8}, False, ())
    defaults = {'model': {'name': 'd', 'num_removed_strides': 0, 'output_stride': 32}}
    config = {'model': {'name': 'b', 'num_removed_strides': 1, 'output_stride': 32}}
    assert describe_replaced(start, config, defaults) == (
        "init_from replaces 2 field(s) of the config file: model.name='a' instead of 'b', "
        'model.num_removed_strides=2 instead of 1'
    )
    assert describe_replaced(start, defaults, defaults) is None


@pytest.fixture
def image_folder(tmp_path):
    from PIL import Image

    generator = np.random.default_rng(0)
    for split, count in (('train', 6), ('val', 2)):
        for name in ('ant', 'bee'):
            (tmp_path / 'images' / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (40, 40, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / 'images' / split / name / f'{number}.png')
    return tmp_path / 'images'


def run(script, *arguments):
    environment = {**os.environ, 'XLA_FLAGS': quick_compile.FLAGS, 'JAX_PLATFORMS': 'cpu'}
    return subprocess.run(
        [sys.executable, ROOT / script, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_finetune_needs_a_folder_alone(image_folder, tmp_path):
    """Frozen parameters come out bit for bit as the file has them; eval.py knows the network from the run."""
    _, arrays = source_arrays('timm', 'mobilenet_v1', 0.25)
    weights = tmp_path / 'weights.safetensors'
    weight_files.write_safetensors(weights, {name: 0.1 * array + 0.1 for name, array in arrays.items()})
    arguments = [
        '--config=configs/finetune.py',
        f'--config.data.dir={image_folder}',
        f'--config.init_from={weights}',
        f'--workdir={tmp_path / "run"}',
        '--config.image_size=32',
        '--config.batch_size=4',
        '--config.num_epochs=2',
    ]
    frozen = "--config.optimizer.rate_factors=(('^backbone/', 0.0),)"
    result = run('train.py', *arguments, frozen)
    assert result.returncode == 0, result.stderr
    assert 'mobilenet_v1: ' in result.stdout and '2 classes' in result.stdout
    with CheckpointManager(tmp_path / 'run' / 'checkpoints', identity=None, read_only=True) as checkpoints:
        trained = named_leaves(checkpoints.restore(None).state['params'])
    for name, leaf in named_leaves(load_pretrained(str(weights)).variables['params']).items():
        assert name.startswith('logits/') != np.array_equal(trained[name], leaf), name
    assert trained['logits/kernel'].shape == (256, 2) and trained['logits/kernel'].any()
    evaluated = run('eval.py', f'--workdir={tmp_path / "run"}')
    assert evaluated.returncode == 0 and '"model": "mobilenet_v1"' in evaluated.stdout, evaluated.stderr


@pytest.mark.slow  # with a small network in tests/end_to_end/test_other_data.py
def test_recipe_from_scratch_needs_a_folder_alone(image_folder, tmp_path):
    result = run(
        'train.py',
        '--config=configs/image_folder.py',
        f'--config.data.dir={image_folder}',
        f'--workdir={tmp_path / "run"}',
    )
    assert result.returncode == 0, result.stderr
    assert 'image_folder: 12 training and 4 evaluation images' in result.stdout
    assert 'step 37/37  evaluation: ' in result.stdout
