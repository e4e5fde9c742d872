"""Rounding to 8 bit in training, beside arithmetic by hand: values, gradients, ranges, and a run that goes on."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.fake_quantization import (
    STATISTICS,
    FakeQuantized,
    Phases,
    activations,
    fake_quantize,
    fake_quantize_kernel,
    float_statistics,
    ranges_of,
)
from mobilenets_jax.identity import Identity, network_fields
from mobilenets_jax.models import create_model
from mobilenets_jax.models.layers import ConvNorm, LayerSettings
from mobilenets_jax.training import parallel
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.ema import EmaOptions
from mobilenets_jax.training.optimizers import WeightDecayOptions
from mobilenets_jax.training.state import create_state, make_init, tree_sha256
from mobilenets_jax.training.step import make_train_step

CLASSES = 3


def test_activations_are_rounded_to_256_values_one_of_which_is_0():
    values = jnp.array([-2.0, -1.0, -0.006, 0.004, 0.006, 1.55, 2.0])
    rounded = fake_quantize(values, -1.0, 1.55)  # steps of 0.01
    np.testing.assert_allclose(rounded, [-1, -1, -0.01, 0, 0.01, 1.55, 1.55], atol=1e-6)
    # 33.7 steps below 0: the range is shifted to 34, so that 0 stays 0.
    np.testing.assert_allclose(fake_quantize(jnp.array([-9.0, 0, 9]), -0.337, 2.213), [-0.34, 0, 2.21], atol=1e-6)
    # A range without 0 is widened to it, and one of no width takes nothing from a layer that is always 0.
    np.testing.assert_allclose(fake_quantize(jnp.array([0.0, 0.014, 2.5]), 0.5, 2.55), [0, 0.01, 2.5], atol=1e-6)
    assert fake_quantize(jnp.zeros(3), 0.0, 0.0).tolist() == [0, 0, 0]
    every = fake_quantize(jnp.linspace(-3, 3, 5001), -0.7, 1.9)
    assert len(np.unique(np.asarray(every))) == 256


def test_gradient_passes_inside_the_range_and_stops_outside():
    values = jnp.array([-2.0, -1.0, -0.006, 0.004, 1.5, 2.0])
    weights = jnp.arange(1.0, 7)
    gradient = jax.grad(lambda x: (weights * fake_quantize(x, -1.0, 1.55)).sum())(values)
    assert gradient.tolist() == [0, 2, 3, 4, 5, 0]


def test_kernels_are_rounded_by_channel_and_keep_their_gradient():
    kernel = jnp.array([[1.27, -2.54, 0], [0.004, 0.011, 0], [-0.006, 0.009, 0]])[:, None]  # (3, 1, 3)
    expected = [[1.27, -2.54, 0], [0, 0.02, 0], [-0.01, 0, 0]]
    np.testing.assert_allclose(fake_quantize_kernel(kernel)[:, 0], expected, atol=1e-6)
    weights = jnp.arange(9.0).reshape(3, 1, 3)
    assert jax.grad(lambda k: (weights * fake_quantize_kernel(k)).sum())(kernel).tolist() == weights.tolist()


def test_kernels_folded_with_their_batch_norm_are_rounded_alike():
    rng = np.random.default_rng(0)
    kernel, factor = rng.normal(size=(3, 3, 8, 16)).astype(np.float32), rng.normal(size=16).astype(np.float32)
    np.testing.assert_allclose(
        fake_quantize_kernel(kernel * factor), fake_quantize_kernel(kernel) * factor, rtol=1e-5, atol=1e-6
    )


def points(name):
    model, images = create_model(name, CLASSES), jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    return set(jax.eval_shape(lambda variables: activations(model, variables, images), variables))


def test_points_are_the_tensors_of_a_quantized_file():
    """Each has been found in the file that the network is converted to."""
    found = points('mobilenet_v2')
    # 52 convolutions, 10 sums, what is pooled, the logits.
    assert len(found) == 64
    assert {name for name in found if name.startswith('backbone/block03/')} == {
        *(f'backbone/block03/{layer}/bn/output' for layer in ('expand', 'depthwise', 'project')),
        'backbone/block03/output',
    }
    assert {name for name in found if not name.startswith('backbone/')} == {'Dropout_0/input', 'logits/output'}
    found = points('mobilenet_v3_small')
    assert {name for name in found if name.startswith('backbone/block04/')} == {
        *(
            f'backbone/block04/{layer}/bn/{value}'
            for layer in ('expand', 'depthwise')
            for value in ('linear', 'output')
        ),
        *(f'backbone/block04/se/{value}' for value in ('reduce/input', 'expand/input', 'expand/gate', 'output')),
        'backbone/block04/project/bn/output',
    }
    others = {'pre_logits/input', 'pre_logits/output', 'Dropout_0/input', 'logits/output'}
    assert {name for name in found if not name.startswith('backbone/')} == others


class TinyNet(nn.Module):
    """A convolution, a batch norm, hard-swish, means, dropout, logits."""

    dropout_rate: float = 0.0
    bn_axis_name: str | None = None

    @nn.compact
    def __call__(self, images, *, train):
        settings = LayerSettings(bn_momentum=0.5, bn_axis_name=self.bn_axis_name, initializer='keras')
        x = ConvNorm(4, 'hard_swish', settings, kernel_size=3, name='stem')(images, train=train).mean(axis=(1, 2))
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return settings.dense(CLASSES, name='logits')(x), {}


POINTS = ['stem/bn/linear', 'stem/bn/output', 'Dropout_0/input', 'logits/output']
IMAGES = np.random.default_rng(5).uniform(-1, 1, (8, 6, 6, 3)).astype(np.float32)


def quantized(model, delay=0, freeze=None, axis_name=None):
    return FakeQuantized(
        model=model,
        input_range=(-1.0, 1.0 + 2 / 255),
        range_momentum=0.75,
        phases=lambda: Phases(delay, freeze),
        axis_name=axis_name,
    )


def started(network):
    variables = network.init(jax.random.key(0), IMAGES, train=False)
    return {**variables, 'batch_stats': network.calibrated(variables, IMAGES)}


def in_training(network, variables, images):
    (logits, _), updated = network.apply(variables, images, train=True, mutable=['batch_stats'])
    return logits, {**variables, **updated}


def test_first_ranges_are_those_of_the_first_images():
    network = quantized(TinyNet())
    variables = started(network)
    ranges = ranges_of(variables['batch_stats'])
    assert sorted(ranges) == sorted(POINTS)
    logits, _ = TinyNet().apply(
        {**variables, 'batch_stats': float_statistics(variables['batch_stats'])}, IMAGES, train=False
    )
    np.testing.assert_allclose(ranges['logits/output'], (logits.min(), logits.max()), rtol=1e-5)
    low, high = ranges['stem/bn/output']
    assert -0.376 < low < -0.3 < 0.5 < high  # hard-swish is nowhere below -3/8


def test_before_the_delay_nothing_is_rounded_and_the_ranges_follow():
    network = quantized(TinyNet(), delay=2)
    variables = started(network)
    plain = {**variables, 'batch_stats': float_statistics(variables['batch_stats'])}
    before = ranges_of(variables['batch_stats'])
    logits, after_one = in_training(network, variables, 0.5 * IMAGES)
    (expected, _), updated = TinyNet().apply(plain, 0.5 * IMAGES, train=True, mutable=['batch_stats'])
    np.testing.assert_allclose(logits, expected, rtol=1e-6)
    jax.tree.map(
        lambda own, other: np.testing.assert_allclose(own, other, rtol=1e-6),
        float_statistics(after_one['batch_stats']),
        updated['batch_stats'],
    )
    batch = np.array([expected.min(), expected.max()])
    followed = ranges_of(after_one['batch_stats'])['logits/output']
    np.testing.assert_allclose(followed, 0.75 * before['logits/output'] + 0.25 * batch, rtol=1e-5)
    assert after_one['batch_stats'][STATISTICS]['count'] == 1
    _, after_two = in_training(network, after_one, IMAGES)
    logits, _ = in_training(network, after_two, IMAGES)
    (expected, _), _ = TinyNet().apply(plain, IMAGES, train=True, mutable=['batch_stats'])
    # Rounded, and cut off where the ranges have not followed yet.
    assert 1e-3 < np.abs(logits - expected).max() < 0.2


def test_rounded_network_is_the_arithmetic_of_its_layers():
    network = quantized(TinyNet())
    variables = started(network)
    params, statistics = variables['params'], variables['batch_stats']
    ranges = ranges_of(statistics)

    def rounded(values, name):
        low, high = ranges[name]
        scale = (max(high, 0) - min(low, 0)) / 255
        zero = np.round(-min(low, 0) / scale)
        return (np.clip(np.round(values / scale) + zero, 0, 255) - zero) * scale

    images = fake_quantize(jnp.asarray(IMAGES), *network.input_range)
    kernel = fake_quantize_kernel(params['stem']['conv']['kernel'])
    x = jax.lax.conv_general_dilated(images, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    mean, var = (np.asarray(statistics['stem']['bn'][name]) for name in ('mean', 'var'))
    x = rounded((np.asarray(x) - mean) / np.sqrt(var + 1e-3), POINTS[0])
    x = rounded(x * np.clip(x + 3, 0, 6) / 6, POINTS[1]).mean(axis=(1, 2))
    kernel = np.asarray(fake_quantize_kernel(params['logits']['kernel']))
    expected = rounded(rounded(x, POINTS[2]) @ kernel + params['logits']['bias'], POINTS[3])
    logits, _ = network.apply(variables, IMAGES, train=False)
    step = np.diff(ranges['logits/output'])[0] / 255
    # A value half-way between two steps may fall to either side.
    assert np.abs(logits - expected).max() < 1.1 * step
    assert np.mean(np.abs(logits - expected) < 0.01 * step) > 0.8


def test_frozen_network_trains_as_it_is_evaluated():
    network = quantized(TinyNet(), freeze=1)
    variables = started(network)
    _, moved = in_training(network, variables, 0.5 * IMAGES)
    assert tree_sha256(ranges_of(moved['batch_stats'])) != tree_sha256(ranges_of(variables['batch_stats']))
    logits, frozen = in_training(network, moved, 0.7 * IMAGES)
    count = frozen['batch_stats'][STATISTICS].pop('count'), moved['batch_stats'][STATISTICS].pop('count')
    assert count == (2, 1)
    assert tree_sha256(frozen['batch_stats']) == tree_sha256(moved['batch_stats'])
    expected, _ = network.apply(moved, 0.7 * IMAGES, train=False)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_what_dropout_scales_does_not_widen_a_range():
    ranges = []
    for rate in (0.0, 0.5):
        network = quantized(TinyNet(dropout_rate=rate))
        options = {'train': True, 'mutable': ['batch_stats'], 'rngs': {'dropout': jax.random.key(3)}}
        _, updated = network.apply(started(network), IMAGES, **options)
        ranges.append(ranges_of(updated['batch_stats']))
    np.testing.assert_allclose(ranges[0]['Dropout_0/input'], ranges[1]['Dropout_0/input'], rtol=1e-6)
    assert np.abs(ranges[0]['logits/output'] - ranges[1]['logits/output']).max() > 0.01  # which saw the dropout


def batches(count, devices):
    rng = np.random.default_rng(1)
    images = rng.uniform(-1, 1, (count, devices, 8 // devices, 6, 6, 3)).astype(np.float32)
    labels = rng.integers(0, CLASSES, (count, devices, 8 // devices)).astype(np.int32)
    return [{'image': image, 'label': label} for image, label in zip(images, labels, strict=True)]


def training(devices, **options):
    network = quantized(TinyNet(bn_axis_name=parallel.AXIS_NAME), delay=1, freeze=5, axis_name=parallel.AXIS_NAME)
    optimizer, ema = optax.sgd(0.1), EmaOptions(decay=0.5)
    task = ClassificationTask(model=network, preprocess=lambda batch, train: batch['image'])
    step = make_train_step(task, optimizer, ema=ema, weight_decay=WeightDecayOptions(rate=0.0), seed=0, **options)
    init = make_init(network, optimizer, image_size=6, ema=ema)
    mapped = parallel.parallel_train_step(step, jax.devices()[:devices])
    return parallel.to_host(create_state(init, seed=0)), mapped


def train(state, step, data):
    for batch in data:
        state, _ = step(state, batch)
    return parallel.to_host(state)


def test_run_that_goes_on_from_a_checkpoint_is_the_same_bit_for_bit(tmp_path):
    start, step = training(devices=2)
    data = batches(6, devices=2)
    straight = train(start, step, data)
    fields = network_fields({'model': {'name': 'mobilenet_v1', 'width_multiplier': 1.0, 'convention': 'tf'}})
    identity = Identity(fields=fields, class_names=['a', 'b', 'c'])
    with CheckpointManager(tmp_path, identity=identity) as checkpoints:
        checkpoints.save(3, parallel.replicate(train(start, step, data[:3])), meta={'config': {}})
        checkpoints.wait()
        restored = checkpoints.restore(start)
    assert tree_sha256(train(restored.state, step, data[3:])) == tree_sha256(straight)
    assert straight.batch_stats[STATISTICS]['count'] == 6
    ranges = ranges_of(straight.batch_stats), ranges_of(straight.ema_batch_stats)
    assert all(high - low > 0.1 for low, high in ranges[0].values())
    assert tree_sha256(ranges[0]) != tree_sha256(ranges[1])  # averaged with the parameters that they belong to


@pytest.mark.parametrize('accumulation_steps', [1, 2])
def test_two_devices_learn_the_ranges_of_one(accumulation_steps):
    one, two = (
        train(*training(devices, accumulation_steps=accumulation_steps), batches(4, devices)) for devices in (1, 2)
    )
    if accumulation_steps > 1:  # the parts of one device are others than those of two
        assert one.batch_stats[STATISTICS]['count'] == two.batch_stats[STATISTICS]['count'] == 8
        return
    for name, expected in ranges_of(one.batch_stats).items():
        np.testing.assert_allclose(ranges_of(two.batch_stats)[name], expected, rtol=1e-3, atol=1e-4)
    assert np.ptp(ranges_of(one.batch_stats)['stem/bn/output']) > 0.5
