"""What every network promises its callers: arguments, outputs, dtypes, names that weights can rely on."""

import functools

import flax
import golden_values
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_values import golden
from model_cases import abstract_outputs, all_networks, random_variables

from mobilenets_jax.models import create_backbone, create_model, list_models

NHWC = ('NHWC', 'HWIO', 'NHWC')


def test_train_has_no_default():
    model = create_model('mobilenet_v3_small')
    with pytest.raises(TypeError, match='train'):
        model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


@pytest.mark.parametrize('name', all_networks())
def test_bfloat16_computes_in_bfloat16_and_keeps_the_rest_in_float32(name):
    (logits, endpoints), variables = abstract_outputs(name, 64, dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert {endpoint.dtype for endpoint in endpoints.values()} == {jnp.dtype(jnp.bfloat16)}
    assert (logits.shape, logits.dtype) == ((2, 10), jnp.float32)


@pytest.mark.parametrize('name', list_models())
def test_parameter_paths_are_those_that_saved_weights_have(name):
    """A new name or shape breaks every checkpoint: if it is intended, run `make golden`."""
    assert golden_values.parameters(name) == golden(golden_values.parameters_file(name), name)


def test_named_submodules_of_a_block():
    _, variables = abstract_outputs('mobilenet_v3_small')
    backbone = variables['params']['backbone']
    assert set(backbone) == {'stem', 'head_conv', *(f'block{number:02d}' for number in range(1, 12))}
    assert set(backbone['block04']) == {'expand', 'depthwise', 'se', 'project'}
    assert set(backbone['block04']['expand']) == {'conv', 'bn'}
    assert set(variables['params']) == {'backbone', 'pre_logits', 'logits'}


def test_backbone_alone_has_the_classifiers_parameters():
    _, variables = abstract_outputs('mobilenet_v2', 64)
    alone = jax.eval_shape(
        lambda: create_backbone('mobilenet_v2').init(jax.random.key(0), jnp.zeros((2, 64, 64, 3)), train=False)
    )
    assert alone['params'] == variables['params']['backbone']


def test_dropout_and_batch_statistics_only_in_training():
    model = create_model('mobilenet_v1', 10, 0.25, dropout_rate=0.5)
    variables = random_variables(model, 32)
    images = np.random.default_rng(1).standard_normal((4, 32, 32, 3), np.float32)

    def evaluate(variables, images):
        return model.apply(variables, images, train=False)[0]

    def train(variables, images, key):
        (logits, _), new = model.apply(variables, images, train=True, mutable=['batch_stats'], rngs={'dropout': key})
        return logits, new['batch_stats']

    evaluate = jax.jit(evaluate)
    train = jax.jit(train)
    np.testing.assert_array_equal(evaluate(variables, images), evaluate(variables, images))
    logits, new_stats = train(variables, images, jax.random.key(0))
    other_logits, _ = train(variables, images, jax.random.key(1))
    assert np.max(np.abs(logits - other_logits)) > 0.1
    # The stem's running mean moves to the mean over the batch by 1 - 0.9997.
    old, new = (tree['backbone']['stem']['bn']['mean'] for tree in (variables['batch_stats'], new_stats))
    convolved = jax.lax.conv_general_dilated(
        images, variables['params']['backbone']['stem']['conv']['kernel'], (2, 2), 'SAME', dimension_numbers=NHWC
    )
    batch_mean = np.mean(convolved, axis=(0, 1, 2))
    np.testing.assert_allclose(new, 0.9997 * old + 0.0003 * batch_mean, rtol=0, atol=1e-7)
    with pytest.raises(flax.errors.InvalidRngError, match='dropout'):
        jax.eval_shape(functools.partial(model.apply, train=True, mutable=['batch_stats']), variables, images)
