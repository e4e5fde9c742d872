"""The section `model` of a config, checked: what the networks of all tasks take."""

from typing import Any

import jax

from mobilenets_jax.config import ConfigView
from mobilenets_jax.data import Dataset
from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.models import DTYPES
from mobilenets_jax.training import parallel


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
