"""Every network trains: all parameters get a gradient, and one step lowers the loss on its batch."""

import jax
import numpy as np
import optax
import pytest
from model_cases import all_networks, random_variables

from mobilenets_jax.models import create_model


@pytest.mark.parametrize('name', all_networks(but=['ghostnet', 'mobilenext', 'shufflenet_v1_g2']))
def test_one_step_lowers_the_loss_and_reaches_every_parameter(name):
    model = create_model(name, 10, dropout_rate=0.0)
    variables = random_variables(model, 32)
    generator = np.random.default_rng(1)
    images = generator.standard_normal((8, 32, 32, 3), np.float32)
    labels = generator.integers(10, size=8)

    def loss(params, batch_stats, images, labels):
        variables = {'params': params, 'batch_stats': batch_stats}
        (logits, _), _ = model.apply(variables, images, train=True, mutable=['batch_stats'])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    fixed = (variables['batch_stats'], images, labels)
    step = jax.jit(jax.value_and_grad(loss))
    before, gradients = jax.device_get(step(variables['params'], *fixed))  # NumPy from here: nothing more to compile
    dead = [
        jax.tree_util.keystr(path, simple=True, separator='/')
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
        if not np.any(leaf)
    ]
    assert dead == []
    scale = 0.01 / np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(gradients)))
    stepped = jax.tree.map(lambda p, g: p - scale * g, variables['params'], gradients)
    after, _ = step(stepped, *fixed)
    assert after < before
