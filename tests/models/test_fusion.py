"""The networks as they run on a CPU, fused, equal the networks layer by layer; and every layer can be captured."""

import collections
import functools
import json

import flax.linen as nn
import golden_values
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_values import NATIVE_CALLS, forwards, golden
from model_cases import all_networks, random_variables

from mobilenets_jax.inference import freeze
from mobilenets_jax.models import create_model, list_models
from mobilenets_jax.models.layers import BatchNorm, Conv, ConvNorm, LayerSettings
from mobilenets_jax.ops import fuse
from mobilenets_jax.ops.cpu import native, strips

SIZE = 64

needs_native = pytest.mark.skipif(not native.is_available(), reason='no native ops for this CPU can be built here')


def in_float64(name, batch, **fields):
    model = create_model(name, 7, dropout_rate=0.0, dtype=jnp.float64, **fields)
    variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), random_variables(model, SIZE))
    images = np.random.default_rng(1).normal(size=(batch, SIZE, SIZE, 3))
    return model, variables['params'], variables['batch_stats'], images


def gradients(train, params, batch_stats, images):
    """Of a loss by parameters and images, and what training returns."""

    def loss(params, images):
        logits, statistics = train(params, batch_stats, images)
        return jnp.sum(jnp.sin(logits)), (logits, statistics)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, images)


def assert_equal_to_rounding(ours, expected):
    """Each array to a part of its largest value."""
    for (path, one), other in zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(expected), strict=True):
        error = np.max(np.abs(np.asarray(one) - np.asarray(other)))
        assert error <= 1e-9 * np.max(np.abs(other)) + 1e-9, jax.tree_util.keystr(path)


@needs_native
@pytest.mark.parametrize('name', all_networks(but=['mobilenet_v1', 'mobilenet_v2', 'mobilenext', 'shufflenet_v2']))
def test_fused_is_layer_by_layer(name, monkeypatch):
    monkeypatch.setattr(strips, 'CACHED_BYTES', 0)  # images are small here, and all strips shall run
    with jax.enable_x64(True):
        model, *arrays = in_float64(name, 2)
        evaluate, train = forwards(model)
        for function in (evaluate, functools.partial(gradients, train)):
            forward = fuse if function is evaluate else lambda function: functools.partial(gradients, fuse(train))
            fused, apart = (jax.jit(f)(*arrays) for f in (forward(function), function))
            assert_equal_to_rounding(fused, apart)


@needs_native
@pytest.mark.parametrize('synchronised', [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize('name', all_networks(but=['mobilenet_v2', 'shufflenet_v1_g2', 'ghostnet']))
def test_fused_on_eight_devices_is_layer_by_layer(name, synchronised):
    fields = {'bn_axis_name': 'batch' if synchronised else None}
    if name == 'mobilenet_v2':  # which the fast tests compile
        fields['width_multiplier'] = 0.35
    with jax.enable_x64(True):
        model, params, batch_stats, images = in_float64(name, 16, **fields)
        images = images.reshape(8, 2, *images.shape[1:])
        _, train = forwards(model)

        def run(train):
            step = jax.pmap(functools.partial(gradients, train), axis_name='batch', in_axes=(None, None, 0))
            return step(params, batch_stats, images)

        assert_equal_to_rounding(run(fuse(train)), run(train))


@needs_native
def test_bfloat16_and_dropout_are_fused_too():
    model = create_model('mobilenet_v1', 7, 0.25, dropout_rate=0.5, dtype=jnp.bfloat16)
    variables, images = random_variables(model, 32), np.random.default_rng(0).normal(size=(8, 32, 32, 3))

    def train(variables, images, key):
        (logits, _), _ = model.apply(variables, images, train=True, mutable=['batch_stats'], rngs={'dropout': key})
        return logits

    keys = jax.random.split(jax.random.key(0))
    compiled = map(jax.jit, (fuse(train), train))
    fused, apart = ([function(variables, images, key) for key in keys] for function in compiled)
    for one, other in zip(fused, apart, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=0.1 * np.max(np.abs(other)))
    assert np.max(np.abs(fused[0] - fused[1])) > 0.1 * np.max(np.abs(fused[0]))


@needs_native
@pytest.mark.parametrize('name', all_networks())
def test_native_calls(name):
    """Fewer are welcome: after a change run `make golden`."""
    assert golden_values.native_calls(name) == golden(NATIVE_CALLS, name)


def test_golden_native_calls_are_those_of_all_networks():
    assert list(json.loads(NATIVE_CALLS.read_text())) == list_models()


@pytest.mark.parametrize('train', [False, True])
def test_every_layer_is_called_and_seen(train):
    """By an interceptor, as quantizers and adapters are, and by `capture_intermediates`."""
    model = create_model('mobilenet_v2', 7, dropout_rate=0.0)
    variables, images = random_variables(model, 32), np.ones((2, 32, 32, 3), np.float32)
    called = collections.Counter()

    def count(call, args, kwargs, context):
        called[type(context.module)] += context.method_name == '__call__'
        return call(*args, **kwargs)

    def apply(variables):
        return model.apply(variables, images, train=train, mutable=['batch_stats', 'intermediates'],
                           capture_intermediates=True)  # fmt: skip

    with nn.intercept_methods(count):
        _, state = jax.eval_shape(fuse(apply), variables)
    assert called[Conv] == called[BatchNorm] == called[ConvNorm] == 52
    outputs = state['intermediates']['backbone']['block02']
    assert outputs['expand']['conv']['__call__'][0].shape == (2, 16, 16, 96)
    assert outputs['depthwise']['bn']['__call__'][0].shape == (2, 8, 8, 96)


class Layer(nn.Module):
    """A layer in training."""

    kernel_size: int

    @nn.compact
    def __call__(self, x):
        return ConvNorm(8, 'relu6', LayerSettings(), kernel_size=self.kernel_size)(x, train=True)


class Two(nn.Module):
    """Two layers; only their outputs are kept for the gradient."""

    layer: type[nn.Module] = nn.remat(Layer)

    @nn.compact
    def __call__(self, x):
        return self.layer(1, name='second')(self.layer(3, name='first')(x))


def test_layers_may_be_computed_again_in_the_gradient():
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype(np.float32)
    variables = Two().init(jax.random.key(0), images)

    def gradient(wrapped, model):
        def loss(params):
            apply = wrapped(functools.partial(model.apply, mutable=['batch_stats']))
            return jnp.sum(jnp.sin(apply({**variables, 'params': params}, images)[0]))

        return jax.grad(loss)(variables['params'])

    ours, plain = gradient(fuse, Two()), gradient(lambda function: function, Two(Layer))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), ours, plain)


def test_frozen_network_is_fused():
    model = create_model('mobilenet_v1', 7, 0.25)
    variables, images = random_variables(model, 32), np.ones((1, 32, 32, 3), np.float32)
    logits, _ = model.apply(variables, images, train=False)
    np.testing.assert_allclose(freeze(model, variables)(images), logits, rtol=1e-4, atol=1e-5)
