"""MobileNetV2: inverted residuals with linear bottlenecks.

Paper: Sandler et al., MobileNetV2, 1801.04381, Table 2.
Reference: tensorflow/models research/slim/nets/mobilenet/mobilenet_v2.py@0ba83cf (`V2_DEF`); torchvision 0.28
    models/mobilenetv2.py; keras applications/mobilenet_v2.py@3422977.
Differs: the text says 19 residual bottlenecks, the table sums to 17; the table is built.
"""

import functools

import flax.linen as nn
import jax

from mobilenets_jax.models.architecture import Architecture, Published
from mobilenets_jax.models.blocks import ResidualBlock, register_block
from mobilenets_jax.models.scaling import ScalingConvention, scale
from mobilenets_jax.models.specs import BlockSpec, ConvSpec, NetworkSpec, stage
from mobilenets_jax.models.squeeze_excite import SqueezeExcite
from mobilenets_jax.models.tails import FULL, Tail, with_tail


@register_block('inverted_residual')
class InvertedResidual(ResidualBlock):
    """Expand (1x1), depthwise, [squeeze-excite,] project (1x1, linear), with a residual where shapes allow it.

    The expansion is left out where the depthwise layer is as wide as the input. MobileNetV3 puts the squeeze-excite
    between the depthwise activation and the projection.
    """

    row: BlockSpec

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """See `Block`; the taps are `expansion`, where there is one, and `depthwise`."""
        row, settings = self.row, self.settings
        x, taps = inputs.astype(settings.dtype), {}
        if row.expanded != inputs.shape[-1]:
            x = taps['expansion'] = self.pointwise(row.expanded, row.activation, name='expand')(x, train=train)
        depthwise = self.spatial(row.expanded, row.activation, kernel_size=row.kernel_size, name='depthwise')
        x = taps['depthwise'] = depthwise(x, train=train)
        if row.squeeze_excite is not None:
            x = SqueezeExcite(row.squeeze_excite, inputs.shape[-1], settings, name='se')(x)
        x = self.pointwise(row.out_channels, 'linear', name='project')(x, train=train)
        return self.with_residual(x, inputs, train=train), taps


_stage = functools.partial(stage, kernel_size=3, activation='relu6')

CONVENTIONS = {
    'tf': ScalingConvention(bn_momentum=0.997),
    'keras': ScalingConvention(bn_momentum=0.999, initializer='keras'),
    'torchvision': ScalingConvention(
        padding='symmetric',
        bn_momentum=0.9,
        bn_epsilon=1e-5,
        initializer='torchvision',
        dilate_strided_block=True,
    ),
    'timm': ScalingConvention(padding='symmetric', bn_momentum=0.9, bn_epsilon=1e-5, initializer='fan_out'),
}

TABLE = NetworkSpec(
    stem=ConvSpec(channels=32, kernel_size=3, stride=2, activation='relu6'),
    blocks=(
        # in, t, c, n, s
        *_stage(32, 1, 16, 1, 1),  # C1
        *_stage(16, 6, 24, 2, 2),  # C2
        *_stage(24, 6, 32, 3, 2),  # C3
        *_stage(32, 6, 64, 4, 2),
        *_stage(64, 6, 96, 3, 1),  # C4
        *_stage(96, 6, 160, 3, 2),  # C4/expansion is the first block's
        *_stage(160, 6, 320, 1, 1),
    ),
    head_conv=ConvSpec(channels=1280, activation='relu6'),  # C5
    dropout_rate=0.2,
    convention=CONVENTIONS['tf'],
)

# DeepLab's networks end with the blocks.
TAILS = {'detection': Tail(), 'segmentation': Tail(head_conv=False)}


def build(width_multiplier: float, convention: ScalingConvention, *, tail: str = FULL) -> NetworkSpec:
    """The network at a width.

    Args:
        width_multiplier: positive.
        convention: whose rules.
        tail: 'full', 'detection' (half the channels from the last stride on, the first expansion excepted) or
            'segmentation' (the same, without the last convolution).
    """
    return scale(with_tail(TABLE, TAILS, tail), width_multiplier, convention)


_SLIM = 'slim mobilenet/README.md@0ba83cf'

ARCHITECTURES = (
    Architecture(
        name='mobilenet_v2',
        build=build,
        conventions=CONVENTIONS,
        published={
            (1.4, 224): Published(params=6.9, madds=585, top1=74.7, source='1801.04381 Table 4'),
            (1.3, 224): Published(params=5.34, madds=509, top1=74.4, source=_SLIM),
            (1.0, 224): Published(params=3.4, madds=300, top1=72.0, source='1801.04381 Table 4'),
            (0.75, 224): Published(params=2.61, madds=209, top1=69.8, source=_SLIM),
            (0.5, 224): Published(params=1.95, madds=97, top1=65.4, source=_SLIM),
            (0.35, 224): Published(params=1.66, madds=59, top1=60.3, source=_SLIM),
            (1.0, 192): Published(params=3.47, madds=221, top1=70.7, source=_SLIM),
            (1.0, 160): Published(params=3.47, madds=154, top1=68.8, source=_SLIM),
            (1.0, 128): Published(params=3.47, madds=99, top1=65.3, source=_SLIM),
            (1.0, 96): Published(params=3.47, madds=56, top1=60.3, source=_SLIM),
        },
        notes=(
            'Width 1.4: the paper prints 6.9M parameters and 585M multiply-adds; its own code has 6.11M (6.06M without '
            'batch norm) and 582M.',
            'Width 1.0: 3.4M in the paper, 3.47M in slim (without batch norm), 3,504,872 with it.',
        ),
    ),
)
