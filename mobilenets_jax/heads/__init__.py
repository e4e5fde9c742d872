"""Heads on the endpoints of a backbone: `create_segmenter`, `create_detector`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.heads.aspp import AsppSpec, HeadSpec, LrAsppSpec
from mobilenets_jax.heads.detector import Detector
from mobilenets_jax.heads.segmenter import Segmenter
from mobilenets_jax.heads.ssdlite import DETECTION_HEADS, SsdliteSpec
from mobilenets_jax.models import create_backbone
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.models.tails import FULL

__all__ = [
    *('DETECTION_HEADS', 'Detector', 'chosen_head', 'create_detector'),
    *('HEADS', 'Segmenter', 'create_segmenter', 'head_name'),
]

HEADS = ('aspp', 'r_aspp', 'lr_aspp')
MIN_EXTRA_CHANNELS = 16  # of the extra layers of narrow detectors
# The gate's windows by output stride, for crops of 769 pixels, with which deeplab's networks are trained.
_POOLS = {16: (49, (16, 20)), 32: (25, (4, 5))}
_TORCHVISION: dict[str, Any] = {'align_corners': False, 'bn_momentum': 0.9, 'initializer': 'torch'}
_TORCHVISION_ASPP = AsppSpec(
    atrous_rates=(12, 24, 36), separable=False, pooled_first=False, refined=True, dropout_rate=0.5, **_TORCHVISION
)


def create_segmenter(
    name: str,
    num_classes: int,
    head: str = 'lr_aspp',
    width_multiplier: float = 1.0,
    convention: str = 'tf',
    *,
    tail: str = FULL,
    num_removed_strides: int = 0,
    output_stride: int = 16,
    dropout_rate: float | None = None,
    head_fields: Mapping[str, Any] | None = None,
    drop_path_rate: float = 0.0,
    dtype: jax.typing.DTypeLike = jnp.float32,
    bn_axis_name: str | None = None,
    **fields,
) -> Segmenter:
    """A segmentation network: `apply(variables, images, train=...)` returns logits of every pixel and the endpoints.

    Args:
        name: of the backbone, one of `models.list_models()`.
        num_classes: channels of the logits.
        head: 'aspp', 'r_aspp' or 'lr_aspp', see `heads.aspp`.
        width_multiplier: of the backbone.
        convention: whose rules the backbone follows; with 'torchvision' the head follows torchvision's, with all others
            deeplab's.
        tail: of the backbone, see `models.get_spec`; 'segmentation' is the V3 paper's RF2.
        num_removed_strides: see `models.create_model`.
        output_stride: of the features, 8, 16 or 32.
        dropout_rate: fraction dropped before the logits in training; None is the head's.
        head_fields: fields of the head to set, by the names of `aspp.AsppSpec` or `aspp.LrAsppSpec`, e.g.
            `{'filters': 256, 'bn_momentum': 0.99}`.
        drop_path_rate: of the backbone, see `models.create_model`.
        dtype: of activations and convolutions; parameters, statistics and logits stay float32.
        bn_axis_name: the mapped axis over which batch statistics are averaged in training; None keeps them local.
        **fields: of the backbone's convention, see `models.get_spec`.

    Raises:
        UserError: for any value outside the choices above.
    """
    check(num_classes > 0, 'num_classes', num_classes, 'must be positive')
    backbone = create_backbone(
        name,
        width_multiplier,
        convention,
        tail=tail,
        output_stride=output_stride,
        drop_path_rate=drop_path_rate,
        dtype=dtype,
        bn_axis_name=bn_axis_name,
        **fields,
    )
    check(num_removed_strides >= 0, 'model.num_removed_strides', num_removed_strides, 'must not be negative')
    spec = backbone.spec.remove_first_strides(num_removed_strides)
    head_fields = dict(head_fields or {}) | ({} if dropout_rate is None else {'dropout_rate': dropout_rate})
    head_spec = _head_spec(head, spec, convention, output_stride, head_fields)
    if head_spec.features == 'last_block':
        spec = dataclasses.replace(spec, head_conv=None)  # it is not used
    return Segmenter(spec, backbone.settings, num_classes, head_spec, output_stride)


def head_name(spec: HeadSpec) -> str:
    """The one of `HEADS` that a head is."""
    if isinstance(spec, LrAsppSpec):
        return 'lr_aspp'
    return 'aspp' if isinstance(spec, AsppSpec) and spec.atrous_rates else 'r_aspp'


def _head_spec(
    head: str, spec: NetworkSpec, convention: str, output_stride: int, fields: Mapping[str, Any]
) -> HeadSpec:
    """The head as deeplab or torchvision has it on this backbone, with `fields` replaced."""
    check_choice('head', head, HEADS)
    is_torchvision = convention == 'torchvision'
    if head == 'lr_aspp':
        pool_size, pool_strides = _POOLS.get(output_stride, (None, (1, 1)))
        chosen: HeadSpec = LrAsppSpec(pool_size=pool_size, pool_strides=pool_strides)
        if is_torchvision:
            chosen = LrAsppSpec(low=_first_block(spec, stride=8), gate_bias=False, **_TORCHVISION)
    elif is_torchvision:
        chosen = _TORCHVISION_ASPP if head == 'aspp' else dataclasses.replace(_TORCHVISION_ASPP, atrous_rates=())
    else:
        chosen = AsppSpec()
    # The last convolution of V3 belongs to its features; that of V2 and others corresponds to the layer of V3 after it.
    features = 'C5' if spec.pre_logits is not None else 'last_block'
    names = [field.name for field in dataclasses.fields(chosen)]
    for field in fields:
        check_choice(f'field of {head}', field, names)
    return dataclasses.replace(chosen, **{'features': features, **fields})


def _first_block(spec: NetworkSpec, stride: int) -> str:
    """The endpoint of the first block at a stride."""
    reached = spec.stem.stride * (2 if spec.stem_pool else 1)
    for number, row in enumerate(spec.blocks, start=1):
        reached *= row.stride
        if reached == stride:
            return f'block{number:02d}'
    return f'C{stride.bit_length() - 1}'


def create_detector(
    name: str,
    num_classes: int,
    head: str | None = None,
    width_multiplier: float = 1.0,
    convention: str = 'tf',
    *,
    tail: str = FULL,
    num_removed_strides: int = 0,
    output_stride: int = 32,
    head_fields: Mapping[str, Any] | None = None,
    drop_path_rate: float = 0.0,
    dtype: jax.typing.DTypeLike = jnp.float32,
    bn_axis_name: str | None = None,
    **fields,
) -> Detector:
    """An object detector: `apply(variables, images, train=...)` returns codes and logits of anchors, and the endpoints.

    Args:
        name: of the backbone, one of `models.list_models()`.
        num_classes: without the background.
        head: 'tf' (SSDLite as TensorFlow has it), 'ssd' (the same without depthwise layers), 'torchvision' or
            'mobilenext', see `heads.ssdlite`; None: as the convention, and for MobileNeXt its own.
        width_multiplier: of the backbone, and of the extra layers where the head is TensorFlow's.
        convention: whose rules the backbone follows.
        tail: of the backbone, see `models.get_spec`; 'detection' is the V3 paper's, with half the last channels.
        num_removed_strides: see `models.create_model`.
        output_stride: 32, for which the anchors are made.
        head_fields: fields of the head to set, by the names of `ssdlite.SsdliteSpec`, e.g. `{'class_bias': 0.0}`;
            all of them, as `SsdliteSpec.to_fields` gives them, are the head of a checkpoint.
        drop_path_rate: of the backbone, see `models.create_model`.
        dtype: of activations and convolutions; parameters, statistics, codes and logits stay float32.
        bn_axis_name: the mapped axis over which batch statistics are averaged in training; None keeps them local.
        **fields: of the backbone's convention, see `models.get_spec`; its `bn_momentum` and `initializer` are those of
            the head unless they are given.

    Raises:
        UserError: for any value outside the choices above.
    """
    check(num_classes > 0, 'num_classes', num_classes, 'must be positive')
    check(output_stride == 32, 'model.output_stride', output_stride, 'must be 32, for which the anchors are made')
    check(num_removed_strides >= 0, 'model.num_removed_strides', num_removed_strides, 'must not be negative')
    head = chosen_head(head, name, convention)
    head_spec = DETECTION_HEADS[head]
    if head in ('tf', 'ssd'):
        head_spec = _with_width(head_spec, width_multiplier)
    head_spec = head_spec.replace(head_fields or {})
    rules: dict[str, Any] = {'bn_momentum': head_spec.bn_momentum, 'initializer': head_spec.initializer} | fields
    rules |= {'tail': tail, 'drop_path_rate': drop_path_rate, 'dtype': dtype, 'bn_axis_name': bn_axis_name}
    backbone = create_backbone(name, width_multiplier, convention, **rules)
    spec = backbone.spec.remove_first_strides(num_removed_strides)
    return Detector(spec, backbone.settings, num_classes, head_spec, output_stride)


def chosen_head(head: str | None, name: str, convention: str) -> str:
    """The key of `DETECTION_HEADS` that `create_detector` takes; raises `UserError` for an unknown one."""
    if head is None:
        head = 'mobilenext' if name == 'mobilenext' else 'torchvision' if convention == 'torchvision' else 'tf'
    check_choice('head', head, DETECTION_HEADS)
    return head


def _with_width(spec: SsdliteSpec, width_multiplier: float) -> SsdliteSpec:
    """The head with its extra layers at a width."""

    def scaled(channels: int) -> int:
        return max(int(channels * width_multiplier), MIN_EXTRA_CHANNELS)

    extras = tuple((scaled(first), scaled(second)) for first, second in spec.extras)
    return dataclasses.replace(spec, extras=extras)
