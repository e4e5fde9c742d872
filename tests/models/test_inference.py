"""A frozen network is the network, for good."""

import jax
import numpy as np
from model_cases import random_variables

from mobilenets_jax.inference import freeze
from mobilenets_jax.models import create_model


def test_frozen_network_gives_the_logits_and_keeps_its_parameters():
    model = create_model('mobilenet_v3_small', 10, 0.35)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    variables = random_variables(model, 32)
    expected, _ = jax.jit(model.apply, static_argnames='train')(variables, images, train=False)
    classify = freeze(model, variables)
    assert len(jax.tree.leaves(classify.lower(images).in_avals)) == 1  # the images alone
    np.testing.assert_allclose(classify(images), expected, rtol=1e-5, atol=1e-5)
    variables['params'] = jax.tree.map(np.zeros_like, variables['params'])
    np.testing.assert_allclose(classify(images[:1]), expected[:1], rtol=1e-5, atol=1e-5)
