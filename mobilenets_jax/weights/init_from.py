"""Where a run's variables come from: published weights, or a checkpoint of another run."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from mobilenets_jax.errors import UserError
from mobilenets_jax.identity import NETWORK_FIELDS, field_name
from mobilenets_jax.models.tails import FULL
from mobilenets_jax.trees import describe_leaf, named_leaves
from mobilenets_jax.weights.pretrained import Pretrained, load_pretrained
from mobilenets_jax.weights.trained import is_folder, read_trained

PyTree = Any

FIELD = 'init_from'  # as users know it
HEAD = 'params/logits/'


class StartingPoint(NamedTuple):
    """What a run starts from.

    Attributes:
        variables: 'params' and 'batch_stats'.
        fields: of the config, by dotted path, that they need and the command line does not set.
        folded: whether the batch norms are identities, folded into the convolutions.
        class_names: of a run, in the order of the labels; None: its checkpoint does not name them; (): of published
            weights, which have none to compare.
    """

    variables: PyTree
    fields: dict[str, Any]
    folded: bool
    class_names: tuple[str, ...] | None


def starting_point(source: str, given: Mapping[str, Any], *, new_head: bool = False) -> StartingPoint:
    """Reads published weights, or a checkpoint of a run: its averaged parameters, where it has some.

    Args:
        source: a file; a name in `CARDS`; or the workdir of a run, whose newest intact checkpoint is taken, its folder
            of checkpoints, or that of one step. Local, perhaps with ~, or gs://.
        given: what the command line sets of the config, by dotted path.
        new_head: whether the classifier starts afresh, so that the weights need none.

    Raises:
        UserError: there is no such thing, or it is damaged.
    """
    if is_folder(source, f'{FIELD}={source!r}'):
        return _checkpoint(source, given)
    network = {name: given.get(f'model.{name}') for name in ('convention', 'width_multiplier')}
    network |= {'image_size': given.get('image_size'), 'value_range': given.get('data.normalization')}
    network['num_classes'] = 1 if new_head else None  # `fit` puts a head of the data's classes there
    try:
        pretrained = load_pretrained(os.path.expanduser(source), given.get('model.name'), **network, option=FIELD)
    except UserError as error:  # the readers know their file by the option of eval.py and predict
        message = str(error)
        raise UserError(message.replace('weights=', f'{FIELD}=', int(message.startswith('weights=')))) from error
    fields = config_fields(pretrained)
    fields = {name: fields[name] for name in NETWORK_FIELDS if name not in given}
    return StartingPoint(pretrained.variables, fields, pretrained.card.folded, class_names=())


def _checkpoint(source: str, given: Mapping[str, Any]) -> StartingPoint:
    trained = read_trained(source, f'{FIELD}={source!r}')
    fields = {path: trained.fields[field_name(path)] for path in NETWORK_FIELDS if path not in given}
    return StartingPoint(trained.variables, fields, folded=False, class_names=trained.class_names)


def describe_replaced(start: StartingPoint, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> str | None:
    """Which fields that a config's file sets the weights replace, in one line; None if there are none.

    Args:
        start: what the run starts from.
        config: before they are replaced, nested.
        defaults: what the fields are where no file sets them, nested.
    """
    replaced = []
    for path, value in start.fields.items():
        section, field = path.split('.')
        before = config[section][field]
        if before not in (value, defaults[section][field]):
            replaced.append(f'{path}={value!r} instead of {before!r}')
    return (
        f'init_from replaces {len(replaced)} field(s) of the config file: {", ".join(replaced)}' if replaced else None
    )


def config_fields(pretrained: Pretrained) -> dict[str, Any]:
    """The config, by dotted path, that a network with published weights needs."""
    card, preprocessing = pretrained.card, pretrained.card.preprocessing
    dtype = pretrained.model.settings.dtype.name
    of_a_run = {'model.dtype': dtype} if card.class_names else {}
    return {
        **of_a_run,
        'model.name': card.model,
        'model.width_multiplier': card.width_multiplier,
        'model.convention': card.convention,
        'model.tail': card.fields.get('tail', FULL),
        'model.dropped_strides': card.fields.get('dropped_strides', 0),
        'model.output_stride': pretrained.model.output_stride,
        'model.bn_epsilon': pretrained.model.settings.bn_epsilon,
        'model.padding': pretrained.model.settings.padding,
        'model.activation': card.fields.get('activation'),
        'model.num_classes': pretrained.model.num_classes,
        'image_size': preprocessing.image_size,
        'data.eval_crop': preprocessing.crop,
        'data.crop_fraction': preprocessing.crop_fraction,
        'data.interpolation': preprocessing.interpolation,
        'data.normalization': preprocessing.value_range,
    }


def fit(
    variables: Mapping[str, PyTree], target: Mapping[str, PyTree], source: str, *, new_head: bool = False
) -> PyTree:
    """`variables` in the structure of `target`.

    Args:
        variables: 'params' and 'batch_stats'.
        target: the same of the network that is asked for; only names, shapes and dtypes are looked at.
        source: where the variables come from, for messages, e.g. "init_from='w.pth'".
        new_head: whether the classifier starts afresh, from zeros.

    Raises:
        UserError: they differ; the message names the first array that does.
    """
    found, asked = named_leaves(dict(variables)), named_leaves(dict(target))
    if new_head:
        found = {name: leaf for name, leaf in found.items() if not name.startswith(HEAD)}
        head = {name: leaf for name, leaf in asked.items() if name.startswith(HEAD)}
        found |= {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in head.items()}
    for name in asked | found:
        has, wants = (describe_leaf(leaves[name]) if name in leaves else 'nothing' for leaves in (found, asked))
        if has != wants:
            hint = ' With new_head=True the classifier starts afresh.' if name.startswith(HEAD) else ''
            raise UserError(f'{source} has {has} at {name}; the config asks for {wants}.{hint}')
    return jax.tree.unflatten(jax.tree.structure(dict(target)), [found[name] for name in asked])
