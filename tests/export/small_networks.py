"""A small classifier with weights, for tests that take seconds."""

import numpy as np
from model_cases import random_variables

from mobilenets_jax.models import create_model
from mobilenets_jax.weights.cards import Preprocessing, WeightCard
from mobilenets_jax.weights.pretrained import Pretrained

SIZE = 64  # pixels


def small_network(name: str = 'mobilenet_v2', width_multiplier: float = 0.35, dead: bool = False) -> Pretrained:
    """A network of 10 classes; `dead`: a channel of its depthwise layers has no weight but a bias, as trained ones."""
    model = create_model(name, 10, width_multiplier)
    variables = random_variables(model, SIZE)
    if dead:
        for block in ('block02', 'block05'):
            layer = variables['params']['backbone'][block]['depthwise']
            layer['conv']['kernel'][..., 1] = 0
            layer['bn']['bias'][1] = 1.0
    card = WeightCard(
        name='small',
        model=name,
        width_multiplier=width_multiplier,
        convention='tf',
        preprocessing=Preprocessing(image_size=SIZE),
        class_names=tuple(f'kind {label}' for label in range(10)),
    )
    return Pretrained(model, variables, card)


def pixels(count: int = 12) -> np.ndarray:
    """Images with large structures, uint8 [count, SIZE, SIZE, 3]."""
    coarse = np.random.default_rng(3).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return coarse.repeat(SIZE // 8, axis=1).repeat(SIZE // 8, axis=2)
