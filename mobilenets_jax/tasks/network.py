"""The section `model` of a config, checked: the arguments of the networks of all tasks."""

from typing import Any

import jax

from mobilenets_jax.config import ConfigView
from mobilenets_jax.data import Dataset
from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.identity import NETWORK_FIELDS, field_name
from mobilenets_jax.models import DTYPES
from mobilenets_jax.training import parallel
from mobilenets_jax.weights.trained import Trained


def network_arguments(config: ConfigView, dataset: Dataset) -> dict[str, Any]:
    """The keyword arguments of `models.create_model`.

    Raises:
        UserError: for any value that cannot be run.
    """
    fields = dict(config.model)
    fields.pop('spec_file')  # the table has been read from it
    num_classes = fields.pop('num_classes')
    if num_classes is None:
        num_classes = dataset.num_classes
    check(
        num_classes >= dataset.num_classes,
        'model.num_classes',
        num_classes,
        f'is less than the {dataset.num_classes} classes of {dataset.name}',
    )
    check_choice('model.dtype', fields['dtype'], DTYPES)
    enabled = fields['dtype'] != 'float64' or jax.config.jax_enable_x64
    check(enabled, 'model.dtype', fields['dtype'], 'needs JAX_ENABLE_X64=1 in the environment')
    sync_bn = fields.pop('sync_bn')
    overrides = {name: fields.pop(name) for name in ('bn_momentum', 'bn_epsilon', 'divisor', 'padding', 'activation')}
    momentum, epsilon = overrides['bn_momentum'], overrides['bn_epsilon']
    check(momentum is None or 0.0 <= momentum < 1.0, 'model.bn_momentum', momentum, 'must be in [0, 1)')
    check(epsilon is None or epsilon > 0, 'model.bn_epsilon', epsilon, 'must be positive')
    divisor = overrides['divisor']
    check(divisor is None or divisor > 0, 'model.divisor', divisor, 'must be positive')
    return {
        'num_classes': num_classes,
        'bn_axis_name': parallel.AXIS_NAME if sync_bn else None,
        **fields,
        **{name: value for name, value in overrides.items() if value is not None},
    }


def fields_of_run(trained: Trained, section: str) -> dict[str, Any]:
    """The fields of the config, by dotted path, with which the network of a run is built again.

    Args:
        trained: a checkpoint of the run.
        section: of the config, which describes the head.
    """
    network = {path: trained.fields[field_name(path)] for path in NETWORK_FIELDS}
    head = {f'{section}.{name}': value for name, value in trained.config.get(section, {}).items()}
    return {**network, 'model.num_classes': trained.num_classes, **head}
