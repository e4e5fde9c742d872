"""MobileNetV1: depthwise separable convolutions with a width multiplier; and SE-MobileNetV1.

Paper: Howard et al., MobileNets, 1704.04861, Table 1; Hu et al., Squeeze-and-Excitation Networks, 1709.01507.
Reference: tensorflow/models research/slim/nets/mobilenet_v1.py@0cf9932 (`MOBILENETV1_CONV_DEFS`).
Differs: Table 1 prints stride 2 for the last depthwise layer at 7x7; every implementation, and this one, uses 1. The
    paper's figures say ReLU; the code, and this module, ReLU6.
"""

import functools

import flax.linen as nn
import jax

from mobilenets_jax.models.architecture import Architecture, Published
from mobilenets_jax.models.blocks import Block, register_block
from mobilenets_jax.models.scaling import ScalingConvention, scale
from mobilenets_jax.models.specs import BlockSpec, ConvSpec, NetworkSpec, SqueezeExciteSpec
from mobilenets_jax.models.squeeze_excite import SqueezeExcite


@register_block('depthwise_separable')
class DepthwiseSeparable(Block):
    """Depthwise and pointwise convolution, each with normalisation and activation[, squeeze-excite]; no residual."""

    row: BlockSpec

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """See `Block`; the tap is `depthwise`."""
        row, channels = self.row, inputs.shape[-1]
        depthwise = self.spatial(channels, row.activation, kernel_size=row.kernel_size, name='depthwise')
        x = tap = depthwise(inputs, train=train)
        x = self.pointwise(row.out_channels, row.activation, name='pointwise')(x, train=train)
        if row.squeeze_excite is not None:
            x = SqueezeExcite(row.squeeze_excite, channels, self.settings, name='se')(x)
        return x, {'depthwise': tap}


def _row(in_channels: int, out_channels: int, stride: int) -> BlockSpec:
    return BlockSpec(
        kind='depthwise_separable',
        kernel_size=3,
        expanded=in_channels,
        out_channels=out_channels,
        activation='relu6',
        stride=stride,
    )


CONVENTIONS = {
    'tf': ScalingConvention(bn_momentum=0.9997, rounding='truncate', last_channels='scaled'),
    'keras': ScalingConvention(bn_momentum=0.99, rounding='truncate', last_channels='scaled', initializer='keras'),
    # torchvision publishes no V1; this is the network under the rules of its V2.
    'torchvision': ScalingConvention(
        padding='symmetric', bn_momentum=0.9, bn_epsilon=1e-5, initializer='torchvision', last_channels='scaled'
    ),
    'timm': ScalingConvention(
        padding='symmetric', bn_momentum=0.9, bn_epsilon=1e-5, initializer='fan_out', last_channels='scaled'
    ),
}

TABLE = NetworkSpec(
    stem=ConvSpec(channels=32, kernel_size=3, stride=2, activation='relu6'),
    blocks=(
        # in, out, stride
        _row(32, 64, 1),  # C1
        _row(64, 128, 2),
        _row(128, 128, 1),  # C2
        _row(128, 256, 2),
        _row(256, 256, 1),  # C3
        _row(256, 512, 2),
        _row(512, 512, 1),
        _row(512, 512, 1),
        _row(512, 512, 1),
        _row(512, 512, 1),
        _row(512, 512, 1),  # C4
        _row(512, 1024, 2),
        _row(1024, 1024, 1),  # C5
    ),
    dropout_rate=0.001,
    convention=CONVENTIONS['tf'],
)

ARCHITECTURES = (
    Architecture(
        name='mobilenet_v1',
        build=functools.partial(scale, TABLE),
        conventions=CONVENTIONS,
        published={
            (1.0, 224): Published(params=4.2, madds=569, top1=70.6, source='1704.04861 Table 6'),
            (0.75, 224): Published(params=2.6, madds=325, top1=68.4, source='1704.04861 Table 6'),
            (0.5, 224): Published(params=1.3, madds=149, top1=63.7, source='1704.04861 Table 6'),
            (0.25, 224): Published(params=0.5, madds=41, top1=50.6, source='1704.04861 Table 6'),
            (1.0, 192): Published(params=4.2, madds=418, top1=69.1, source='1704.04861 Table 7'),
            (1.0, 160): Published(params=4.2, madds=290, top1=67.2, source='1704.04861 Table 7'),
            (1.0, 128): Published(params=4.2, madds=186, top1=64.4, source='1704.04861 Table 7'),
        },
        notes=(
            'The slim table prints 317M multiply-adds for width 0.75 where the paper prints 325M and the table gives '
            '325.4M; its 0.75 and 0.25 rows at smaller images differ likewise.',
            'The V2 paper quotes 575M multiply-adds for this network.',
        ),
    ),
    Architecture(
        name='se_mobilenet_v1',
        build=functools.partial(
            scale, TABLE.replace_rows(squeeze_excite=SqueezeExciteSpec(reduction=16, divisor=1, gate='sigmoid'))
        ),
        conventions=CONVENTIONS,
        published={(1.0, 224): Published(top1=74.7, source='1709.01507')},
    ),
)
