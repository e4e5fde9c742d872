"""MobileNeXt: sandglass blocks, whose depthwise convolutions and shortcuts are at the wide ends.

Paper: Zhou et al., Rethinking Bottleneck Structure for Efficient Mobile Network Design, 2007.02269.
Reference: yitu-opensource/MobileNeXt@195ee73 (`mobilenext/codebase/models/mnext.py`), whose special cases this follows.
Differs: copies of the paper list 2 blocks of 960 channels; the code, and this module, have 3.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from mobilenets_jax.errors import check
from mobilenets_jax.models.architecture import Architecture, Published
from mobilenets_jax.models.blocks import Block, register_block
from mobilenets_jax.models.layers import ConvNorm
from mobilenets_jax.models.specs import Convention, ConvSpec, NetworkSpec, make_divisible

# The middle of a block is never narrower than its output divided by this.
MAX_REDUCTION = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class SandglassSpec:
    """One block.

    Attributes:
        reduced: channels in the middle.
        out_channels: channels of the output.
        stride: 1 or 2, of the last depthwise convolution.
        full: whether both depthwise convolutions are there; else the first is missing and, at stride 1, the last.
        identity_channels: how many of the first channels the input is added to.
        kind: the block, a key of `mobilenets_jax.models.blocks.BLOCKS`.
    """

    reduced: int
    out_channels: int
    stride: int
    full: bool
    identity_channels: int
    kind: str = 'sandglass'


@register_block('sandglass')
class Sandglass(Block):
    """[Depthwise,] reduce (1x1, linear), expand (1x1)[, depthwise (linear)], with the input added to some channels."""

    row: SandglassSpec

    @staticmethod
    def is_residual(row: SandglassSpec, in_channels: int) -> bool:
        """See `Block`; the channels that have no input added are never dropped."""
        del in_channels
        return row.identity_channels > 0

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """See `Block`; the tap is `expansion`, in front of the last depthwise convolution."""
        row, settings = self.row, self.settings
        x = inputs = inputs.astype(settings.dtype)
        if row.full:
            x = ConvNorm(
                inputs.shape[-1],
                'relu6',
                settings,
                kernel_size=3,
                dilation=self.dilation,
                depthwise=True,
                name='depthwise1',
            )(x, train=train)
        x = self.pointwise(row.reduced, 'linear', name='reduce')(x, train=train)
        x = expansion = self.pointwise(row.out_channels, 'relu6', name='expand')(x, train=train)
        if row.full or row.stride == 2:
            x = self.spatial(row.out_channels, 'linear', name='depthwise2')(x, train=train)
        if row.identity_channels:
            end = row.identity_channels
            x = jnp.concatenate([self.drop_path(x[..., :end], train=train) + inputs[..., :end], x[..., end:]], axis=-1)
        return x, {'expansion': expansion}


# t (reduction), c, n, s, in the paper's columns.
STAGES = (
    (2, 96, 1, 2),  # C2
    (6, 144, 1, 1),
    (6, 192, 3, 2),
    (6, 288, 3, 2),
    (6, 384, 4, 1),
    (6, 576, 4, 2),  # C4/expansion is the first block's
    (6, 960, 3, 1),
    (6, 1280, 1, 1),  # C5, C5/expansion
)
STEM_CHANNELS = 32
LAST_CHANNELS = 1280  # not narrowed by widths below 1.0

CONVENTIONS = {'tf': Convention(padding='symmetric', bn_momentum=0.9, bn_epsilon=1e-5, initializer='torchvision')}


def build(width_multiplier: float, convention: Convention, *, identity_fraction: float = 1.0) -> NetworkSpec:
    """The network at a width.

    Args:
        width_multiplier: positive.
        convention: whose padding and normalisation.
        identity_fraction: the part of a block's channels that its input is added to (the paper's identity tensor
            multiplier), in [0, 1].
    """
    check(0 <= identity_fraction <= 1, 'identity_fraction', identity_fraction, 'must be in [0, 1]')
    in_channels = stem_channels = make_divisible(STEM_CHANNELS * width_multiplier)
    blocks = []
    for reduction, channels, repeats, first_stride in STAGES:
        out_channels = make_divisible(channels * width_multiplier)
        if channels == LAST_CHANNELS and width_multiplier < 1:
            out_channels = LAST_CHANNELS
        for i in range(repeats):
            stride = first_stride if i == 0 else 1
            alone = repeats == 1 and stride == 1  # such blocks are full, but have no identity
            identity = reduction > 2 and in_channels == out_channels and stride == 1 and not alone
            blocks.append(
                SandglassSpec(
                    reduced=_reduced(in_channels, reduction, out_channels),
                    out_channels=out_channels,
                    stride=stride,
                    full=reduction == 2 or in_channels == out_channels or alone,
                    # The small excess lets a third of 192 channels be 64.
                    identity_channels=int(out_channels * identity_fraction + 1e-6) if identity else 0,
                )
            )
            in_channels = out_channels
    return NetworkSpec(
        stem=ConvSpec(channels=stem_channels, kernel_size=3, stride=2, activation='relu6'),  # C1
        blocks=tuple(blocks),
        dropout_rate=0.2,
        convention=convention,
    )


def _reduced(in_channels: int, reduction: int, out_channels: int) -> int:
    reduced = in_channels // reduction
    if reduced < out_channels / MAX_REDUCTION:
        reduced = make_divisible(math.ceil(out_channels / MAX_REDUCTION), 16)
    return reduced


_README = 'MobileNeXt README@195ee73'

ARCHITECTURES = (
    Architecture(
        name='mobilenext',
        build=build,
        conventions=CONVENTIONS,
        published={
            (1.4, 224): Published(params=6.1, madds=590, top1=76.1, source=_README),
            (1.0, 224): Published(params=3.5, madds=300, top1=74.02, source=_README),
            (0.75, 224): Published(params=2.5, madds=210, top1=72.0, source=_README),
            (0.5, 224): Published(params=2.1, madds=110, top1=67.7, source=_README),
            (0.35, 224): Published(params=1.8, madds=80, top1=64.7, source=_README),
        },
        notes=(
            'The README prints 300M multiply-adds for width 1.0, its code has 311.3M; 2.5M parameters for 0.75, the '
            'code 2.77M; 1.8M and 80M for 0.35, the code 1.91M and 75.1M.',
        ),
    ),
)
