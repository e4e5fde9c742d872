"""Drop path: which blocks leave out what they compute, in which examples, and at which rates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import drop_path_rates, random_variables

from mobilenets_jax.errors import UserError
from mobilenets_jax.fake_quantization import FakeQuantized, Phases, activations
from mobilenets_jax.heads import create_detector, create_segmenter
from mobilenets_jax.models import create_model, get_spec
from mobilenets_jax.models.blocks import BLOCKS, ResidualBlock
from mobilenets_jax.models.layers import LayerSettings
from mobilenets_jax.models.mobilenext import SandglassSpec
from mobilenets_jax.models.network import ImageClassifier
from mobilenets_jax.models.scaling import ScalingConvention
from mobilenets_jax.models.specs import BlockSpec, ConvSpec, NetworkSpec
from mobilenets_jax.ops import fuse
from mobilenets_jax.training.frozen import Frozen

# A block that adds its input: row, channels of the input, the layer whose output is what it computes, what is after.
RESIDUAL_BLOCKS = {
    'inverted_residual': (get_spec('mobilenet_v3_small').blocks[4], 40, 'project', None),
    'dense_inverted_residual': (get_spec('mobilenet_edgetpu').blocks[2], 32, 'project', None),
    'dense_conv': (
        BlockSpec(kind='dense_conv', kernel_size=3, expanded=8, out_channels=8, activation='relu', stride=1),
        8,
        'spatial',
        None,
    ),
    'sandglass': (
        SandglassSpec(reduced=4, out_channels=12, stride=1, full=True, identity_channels=8),
        12,
        'depthwise2',
        None,
    ),
    'ghost_bottleneck': (get_spec('ghostnet').blocks[7], 80, 'project', None),
    'shuffle_v1': (get_spec('shufflenet_v1_g3', 0.5).blocks[1], 120, 'expand', 'relu'),
    'bottleneck': (get_spec('resnet50', 0.25).blocks[1], 64, 'expand', 'relu'),
}

_ROW = BlockSpec(kernel_size=3, expanded=16, out_channels=8, activation='relu', stride=1)
TINY = NetworkSpec(
    stem=ConvSpec(channels=8, kernel_size=3, stride=2, activation='relu'),
    blocks=(_ROW, _ROW, _ROW),
    dropout_rate=0.0,
    convention=ScalingConvention(),
)


def tiny(rate):
    return ImageClassifier(TINY, LayerSettings(drop_path_rate=rate), 5, dropout_rate=0.0)


def drawn_variables(module, images):
    """Of any module, without compiling how they are drawn."""
    generator = np.random.default_rng(3)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), images, train=False))

    def draw(path, leaf):
        least = -1.0 if path[-1].key == 'kernel' else 0.1
        return generator.uniform(least, 1, leaf.shape).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


IMAGES = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)


def test_every_block_that_adds_its_input_is_checked_here():
    """A row of each kind, as wide as its input and at stride 1."""
    residual = {kind for kind, (row, width, *_) in RESIDUAL_BLOCKS.items() if BLOCKS[kind].is_residual(row, width)}
    assert residual == set(RESIDUAL_BLOCKS) == set(BLOCKS) - {'depthwise_separable', 'shuffle_v2'}


@pytest.mark.parametrize('kind', RESIDUAL_BLOCKS)
def test_an_example_is_dropped_or_scaled(kind):
    row, width, last, after = RESIDUAL_BLOCKS[kind]
    block = BLOCKS[kind](row, LayerSettings(), 1, 1, 0.25)
    images = np.random.default_rng(0).normal(size=(16, 4, 4, width)).astype(np.float32)
    variables = drawn_variables(block, images)

    def train(variables, images, key):
        return block.apply(
            variables, images, train=True, mutable=True, capture_intermediates=True, rngs={'dropout': key}
        )

    arguments = (variables, images, jax.random.key(1))
    (outputs, _), state = jax.jit(train)(*arguments)
    computed = np.asarray(state['intermediates'][last]['__call__'][0])
    added = slice(None, row.identity_channels if kind == 'sandglass' else None)
    activation = (lambda x: np.maximum(x, 0)) if after == 'relu' else (lambda x: x)
    dropped = 0
    for image, own, output in zip(images, computed, np.asarray(outputs), strict=True):
        without = activation(image)[..., added]
        scaled = activation(image[..., added] + own[..., added] / 0.75)
        is_dropped = np.array_equal(output[..., added], without)
        dropped += is_dropped
        if not is_dropped:
            np.testing.assert_allclose(output[..., added], scaled, rtol=1e-5, atol=1e-5)
        if kind == 'sandglass':  # what has no input added is never dropped
            np.testing.assert_array_equal(output[..., 8:], own[..., 8:])
    assert 1 <= dropped <= 9  # of 16 at a rate of 1/4: all but 3 in 1000 draws


def test_examples_are_dropped_at_the_rate():
    class Dropped(ResidualBlock):
        def __call__(self, inputs):
            return self.drop_path(inputs, train=True)

    images = np.ones((4000, 1, 1, 2), np.float32)
    block = Dropped(_ROW, LayerSettings(), 1, 1, 0.3)
    kept = np.asarray(block.apply({}, images, rngs={'dropout': jax.random.key(0)}))
    assert set(np.unique(kept)) == {0, np.float32(1 / 0.7)}
    assert kept.shape == images.shape and (kept == kept[..., :1]).all()
    assert np.mean(kept[:, 0, 0, 0] == 0) == pytest.approx(0.3, abs=0.03)  # 4 deviations


def test_rates_grow_with_the_depth():
    """As timm's EfficientNetBuilder and torchvision's EfficientNet have them: rate * index / blocks, from 0."""
    assert drop_path_rates(create_model('mobilenet_v3_small', drop_path_rate=0.22)) == pytest.approx(
        [0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2]
    )
    expected = pytest.approx([0.17 * index / 17 for index in range(17)])
    for create in (create_detector, create_segmenter):
        assert drop_path_rates(create('mobilenet_v2', 3, drop_path_rate=0.17)) == expected
    assert set(drop_path_rates(create_model('mobilenet_v2'))) == {0.0}


def outputs_in_training(model, variables, images, key=None):
    rngs = {} if key is None else {'dropout': key}
    return model.apply(variables, images, train=True, mutable=['batch_stats'], rngs=rngs)[0][0]


def evaluate(model, variables):
    return jax.jit(lambda: model.apply(variables, IMAGES, train=False)[0])()


def differ(model, variables):
    """Whether two keys give other outputs in training, by more than rounding."""
    train = jax.jit(lambda key: outputs_in_training(model, variables, IMAGES, key))
    one, other = (np.asarray(train(jax.random.key(seed))) for seed in (0, 1))
    return np.abs(one - other).max() > 0.01 * np.abs(one).max()


def test_evaluation_drops_nothing_and_variables_are_the_same():
    variables = drawn_variables(tiny(0.0), IMAGES)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, drawn_variables(tiny(0.9), IMAGES))
    np.testing.assert_array_equal(evaluate(tiny(0.9), variables), evaluate(tiny(0.0), variables))
    assert differ(tiny(0.9), variables)


def test_frozen_blocks_drop_nothing():
    model, variables = tiny(0.9), drawn_variables(tiny(0.9), IMAGES)
    frozen = Frozen.by_rate_factors((('^backbone/', 0.0),), variables['params'])
    with frozen.evaluation_inside():
        trained = jax.jit(lambda: outputs_in_training(model, variables, IMAGES))()  # needs no rng
    np.testing.assert_array_equal(trained, evaluate(model, variables))


@pytest.mark.parametrize('name', ['mobilenet_v3_small', pytest.param('ghostnet', marks=pytest.mark.slow)])
def test_fused_is_layer_by_layer(name):
    with jax.enable_x64(True):
        model = create_model(name, 7, 0.35, drop_path_rate=0.5, dropout_rate=0.0, dtype='float64')
        variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), random_variables(model, 32))
        images = np.random.default_rng(1).normal(size=(4, 32, 32, 3))

        def gradients(variables, images, key, around=lambda function: function):
            def loss(params):
                def forward(params, images):
                    return outputs_in_training(model, {**variables, 'params': params}, images, key)

                logits = around(forward)(params, images)
                return (logits**2).sum(), logits

            return jax.grad(loss, has_aux=True)(variables['params'])

        key = jax.random.key(0)
        fused = jax.jit(lambda *arrays: gradients(*arrays, around=fuse))
        apart = jax.jit(gradients)
        results = fused(variables, images, key), apart(variables, images, key)
        for one, other in zip(*map(jax.tree.leaves, results), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-9 * np.abs(other).max() + 1e-12)
        _, logits = fused(variables, images, jax.random.key(1))
        assert np.abs(logits - results[0][1]).max() > 0.01 * np.abs(logits).max()


def test_a_network_in_8_bit_has_the_same_points_and_drops_too():
    variables = drawn_variables(tiny(0.0), IMAGES)
    points = [jax.eval_shape(functools.partial(activations, tiny(rate)), variables, IMAGES) for rate in (0.9, 0.0)]
    assert points[0] == points[1]
    quantized = FakeQuantized(
        model=tiny(0.9), input_range=(-1.0, 1.0), range_momentum=0.0, phases=lambda: Phases(0, None), axis_name=None
    )
    statistics = quantized.calibrated(variables, IMAGES)
    assert differ(quantized, {'params': variables['params'], 'batch_stats': statistics})


@pytest.mark.parametrize(
    ('name', 'rate', 'message'),
    [
        ('mobilenet_v1', 0.1, '0.1 has no effect on mobilenet_v1, whose blocks add no residual.'),
        (
            'shufflenet_v2',
            0.1,
            '0.1 has no effect on shufflenet_v2, whose blocks add no residual.',
        ),
        ('mobilenet_v2', 1.0, '1.0 must be in [0, 1).'),
        ('mobilenet_v2', -0.1, '-0.1 must be in [0, 1).'),
    ],
)
def test_wrong_rates_are_refused(name, rate, message):
    with pytest.raises(UserError) as error:
        create_model(name, drop_path_rate=rate)
    assert str(error.value) == f'model.drop_path_rate={message}'
