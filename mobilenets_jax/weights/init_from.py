"""Where a run's variables come from: published weights, or a checkpoint of another run."""

from collections.abc import Mapping
from typing import Any

import jax

from mobilenets_jax.errors import UserError
from mobilenets_jax.trees import describe_leaf, named_leaves
from mobilenets_jax.weights.pretrained import Pretrained

PyTree = Any

HEAD = 'params/logits/'


def config_fields(pretrained: Pretrained) -> dict[str, Any]:
    """The config, by dotted path, that a network with published weights needs."""
    card, preprocessing = pretrained.card, pretrained.card.preprocessing
    return {
        'model.name': card.model,
        'model.width_multiplier': card.width_multiplier,
        'model.convention': card.convention,
        'model.num_classes': pretrained.model.num_classes,
        'image_size': preprocessing.image_size,
        'data.eval_crop': preprocessing.crop,
        'data.crop_fraction': preprocessing.crop_fraction,
        'data.interpolation': preprocessing.interpolation,
        'data.normalization': preprocessing.value_range,
    }


def fit(variables: Mapping[str, PyTree], target: Mapping[str, PyTree], source: str) -> PyTree:
    """`variables` in the structure of `target`.

    Args:
        variables: 'params' and 'batch_stats'.
        target: the same of the network that is asked for; only names, shapes and dtypes are looked at.
        source: where the variables come from, for messages.

    Raises:
        UserError: they differ; the message names the first array that does.
    """
    found, asked = named_leaves(dict(variables)), named_leaves(dict(target))
    for name in asked | found:
        has, wants = (describe_leaf(leaves[name]) if name in leaves else 'nothing' for leaves in (found, asked))
        if has != wants:
            raise UserError(f'weights={source!r} have {has} at {name}; the config asks for {wants}.')
    return jax.tree.unflatten(jax.tree.structure(dict(target)), [found[name] for name in asked])
