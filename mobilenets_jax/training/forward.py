"""The forward pass of a network of any task, as its loss and its evaluation call it."""

from typing import Any

import jax

from mobilenets_jax.ops import fuse
from mobilenets_jax.training.frozen import Frozen

PyTree = Any


def forward_in_training(
    model: Any, params: PyTree, batch_stats: PyTree, images: jax.Array, key: jax.Array, frozen: Frozen
) -> tuple[Any, PyTree]:
    """The outputs of a network in training, without its endpoints, and the updated running statistics.

    Args:
        model: a module with the call contract of `mobilenets_jax.models`.
        params: what the loss is differentiated by.
        batch_stats: running statistics before.
        images: normalised, float [n, H, W, 3].
        key: for dropout.
        frozen: the modules that run as in evaluation.
    """

    def forward(params, images):
        with frozen.evaluation_inside():
            (outputs, _), updated = model.apply(
                {'params': params, 'batch_stats': batch_stats},
                images,
                train=True,
                mutable=['batch_stats'],
                rngs={'dropout': key},
            )
        return outputs, updated

    outputs, updated = fuse(forward)(params, images)
    return outputs, updated.get('batch_stats', {})


def forward_in_evaluation(model: Any, params: PyTree, batch_stats: PyTree, images: jax.Array) -> Any:
    """The outputs of a network in evaluation, without its endpoints; arguments as of `forward_in_training`."""

    def forward(variables, images):
        return model.apply(variables, images, train=False)[0]

    return fuse(forward)({'params': params, 'batch_stats': batch_stats}, images)
