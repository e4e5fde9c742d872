"""What the model tests share: shapes without computing, variables without an initialiser, and quick compilation."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from mobilenets_jax.export.untrained import random_variables as random_variables
from mobilenets_jax.models import create_model, list_models
from mobilenets_jax.models.blocks import Block

# One network for each kind of block: what takes seconds a network is checked for these, and for all by the long tests.
ONE_A_BLOCK = (
    *('mobilenet_v1', 'mobilenet_v2', 'mobilenet_v3_small', 'mobilenext', 'shufflenet_v1_g2', 'shufflenet_v2'),
    'ghostnet',
)


def all_networks(but: Sequence[str] = ()):
    """All names as parameters of a test, those beyond `ONE_A_BLOCK`, and those that take longest, marked slow."""
    slow = [pytest.mark.slow]
    return [pytest.param(name, marks=[] if name in ONE_A_BLOCK and name not in but else slow) for name in list_models()]


def _abstract(model, image_size: int, train: bool):
    images = jax.ShapeDtypeStruct((2, image_size, image_size, 3), jnp.float32)
    keys = {'params': jax.random.key(0), 'dropout': jax.random.key(1)}
    return jax.eval_shape(functools.partial(model.init_with_output, train=train), keys, images)


@functools.cache
def abstract_outputs(name: str, image_size: int = 224, train: bool = False, **kwargs):
    """((logits, endpoints), variables) of a network of 10 classes, as shapes and dtypes."""
    model = create_model(name, 10, **kwargs)
    return _abstract(model, image_size, train)


def drop_path_rates(model) -> list[float]:
    """Of all blocks of a network, in their order."""
    found = []

    def call(method, args, kwargs, context):
        if isinstance(context.module, Block) and context.method_name == '__call__':
            found.append(context.module.drop_path_rate)
        return method(*args, **kwargs)

    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    with nn.intercept_methods(call):
        jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)
    return found
