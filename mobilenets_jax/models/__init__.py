"""Every architecture by name: `create_model`, `create_backbone`, `get_spec`, `list_models`."""

import jax
import jax.numpy as jnp

from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.models import (
    ghostnet,
    mnasnet,
    mobilenet_edgetpu,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    mobilenext,
    resnet,
    shufflenet_v1,
    shufflenet_v2,
)
from mobilenets_jax.models.architecture import Architecture
from mobilenets_jax.models.blocks import BLOCKS
from mobilenets_jax.models.found import architecture_of
from mobilenets_jax.models.layers import LayerSettings
from mobilenets_jax.models.network import OUTPUT_STRIDES, Backbone, ImageClassifier
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.models.tails import FULL

_FAMILIES = (
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    mobilenet_edgetpu,
    mnasnet,
    mobilenext,
    shufflenet_v1,
    shufflenet_v2,
    ghostnet,
    resnet,
)

ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture for family in _FAMILIES for architecture in family.ARCHITECTURES
}

DTYPES = ('float32', 'bfloat16', 'float16', 'float64')


def list_models() -> list[str]:
    """The names of all registered networks, family by family."""
    return list(ARCHITECTURES)


def get_architecture(name: str, table: str = '') -> Architecture:
    """The architecture `name`: that of a table's text, see `models.found`, or where that is '' a registered one.

    Raises:
        UserError: there is no such architecture, or the table is of another one.
    """
    if table:
        found = architecture_of(table)
        check(name == found.name, 'model.name', name, f'is not the network of model.table, which is {found.name!r}')
        return found
    check_choice('model.name', name, ARCHITECTURES)
    return ARCHITECTURES[name]


def get_spec(
    name: str,
    width_multiplier: float = 1.0,
    convention: str = 'tf',
    *,
    tail: str = FULL,
    table: str = '',
    **fields,
) -> NetworkSpec:
    """The table of a network at a width under a convention.

    Args:
        name: one of `list_models()`, or that of the `table`.
        width_multiplier: positive; scales the channels as the convention says.
        convention: whose rules: 'tf' or 'paper' (the authors' own code), 'torchvision', 'keras', 'timm', 'megvii', as
            far as they have the network; of a `table` 'tf', its own.
        tail: 'full'; of MobileNetV2, -V3-Large and -Small also 'detection' and 'segmentation', see `models.tails`.
        table: the text of a network that is not registered, see `models.found`; '': it is.
        **fields: fields of the convention (see `specs.Convention`, `scaling.ScalingConvention`) and of the network (the
            keyword arguments of its family's `build`) to set, e.g. `last_channels='kept'`.

    Raises:
        UserError: for an unknown name, convention, field or value, or a width that does not exist.
    """
    architecture = get_architecture(name, table)
    if tail != FULL:
        check('tail' in architecture.own_fields, 'model.tail', tail, f'is no tail of {name}, which has {FULL!r} alone')
        fields['tail'] = tail
    return architecture.resolve(width_multiplier, convention, **fields)


def _settings(name: str, spec: NetworkSpec, dtype, bn_axis_name, drop_path_rate: float) -> LayerSettings:
    check_choice('model.dtype', jnp.dtype(dtype).name, DTYPES)
    check(0.0 <= drop_path_rate < 1.0, 'model.drop_path_rate', drop_path_rate, 'must be in [0, 1)')
    fits = drop_path_rate == 0 or _has_residuals(spec)
    check(fits, 'model.drop_path_rate', drop_path_rate, f'has no effect on {name}, whose blocks add no residual')
    return LayerSettings(
        dtype=jnp.dtype(dtype),
        padding=spec.convention.padding,
        bn_momentum=spec.convention.bn_momentum,
        bn_epsilon=spec.convention.bn_epsilon,
        bn_axis_name=bn_axis_name,
        initializer=spec.convention.initializer,
        drop_path_rate=drop_path_rate,
    )


def _has_residuals(spec: NetworkSpec) -> bool:
    """Whether there is a block that drop path concerns; the first one, whose rate is 0, is none."""
    widths = [row.out_channels for row in spec.blocks[:-1]]
    return any(BLOCKS[row.kind].is_residual(row, width) for row, width in zip(spec.blocks[1:], widths, strict=True))


def create_backbone(
    name: str,
    width_multiplier: float = 1.0,
    convention: str = 'tf',
    *,
    output_stride: int = 32,
    drop_path_rate: float = 0.0,
    dtype: jax.typing.DTypeLike = jnp.float32,
    bn_axis_name: str | None = None,
    **fields,
) -> Backbone:
    """A network without its classifier: `apply(variables, images, train=...)` returns the endpoints.

    Arguments as of `create_model`; the endpoints' names are in `mobilenets_jax.models.network`.
    """
    check_choice('model.output_stride', output_stride, OUTPUT_STRIDES)
    spec = get_spec(name, width_multiplier, convention, **fields)
    return Backbone(spec, _settings(name, spec, dtype, bn_axis_name, drop_path_rate), output_stride)


def create_model(
    name: str,
    num_classes: int = 1000,
    width_multiplier: float = 1.0,
    convention: str = 'tf',
    *,
    tail: str = FULL,
    table: str = '',
    num_removed_strides: int = 0,
    output_stride: int = 32,
    dropout_rate: float | None = None,
    drop_path_rate: float = 0.0,
    dtype: jax.typing.DTypeLike = jnp.float32,
    bn_axis_name: str | None = None,
    **fields,
) -> ImageClassifier:
    """An image classifier: `apply(variables, images, train=...)` returns logits and named endpoints.

    Args:
        name: one of `list_models()`, or that of the `table`.
        num_classes: width of the logits.
        width_multiplier: positive; scales the channels as the convention says.
        convention: whose rules, see `get_spec`.
        tail: see `get_spec`.
        table: see `get_spec`.
        num_removed_strides: how many of the first strides become 1, for small images, whose details are single pixels.
        output_stride: 8, 16 or 32; below 32 the last strides become dilations.
        dropout_rate: fraction dropped before the logits in training; None is the paper's.
        drop_path_rate: in [0, 1); in training a residual block leaves out what it computes, in each example with a
            probability that grows with the depth: of block i of n, counted from 0, i / n of this rate.
        dtype: of activations and convolutions; parameters, statistics and logits stay float32.
        bn_axis_name: the mapped axis over which batch statistics are averaged in training; None keeps them local.
        **fields: see `get_spec`, e.g. `bn_momentum=0.9` or `hard_swish_from=112`.

    Raises:
        UserError: for any value outside the choices above.
    """
    check(num_classes > 0, 'num_classes', num_classes, 'must be positive')
    check_choice('model.output_stride', output_stride, OUTPUT_STRIDES)
    check(num_removed_strides >= 0, 'model.num_removed_strides', num_removed_strides, 'must not be negative')
    spec = get_spec(name, width_multiplier, convention, tail=tail, table=table, **fields)
    spec = spec.remove_first_strides(num_removed_strides)
    dropout_rate = spec.dropout_rate if dropout_rate is None else dropout_rate
    check(0.0 <= dropout_rate < 1.0, 'model.dropout_rate', dropout_rate, 'must be in [0, 1)')
    settings = _settings(name, spec, dtype, bn_axis_name, drop_path_rate)
    return ImageClassifier(spec, settings, num_classes, dropout_rate, output_stride)
