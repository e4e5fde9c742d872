"""GhostNet: half of the features of each layer are computed from the other half by a cheap depthwise convolution.

Paper: Han et al., GhostNet, 1911.11907, Table 1.
Reference: huawei-noah/Efficient-AI-Backbones@f90e129 (`ghostnet_pytorch/ghostnet.py`, `ghostnet_tensorflow`); timm
    models/ghostnet.py@aa4b585.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from mobilenets_jax.models.architecture import Architecture, Published
from mobilenets_jax.models.blocks import Block, register_block
from mobilenets_jax.models.layers import ConvNorm, LayerSettings
from mobilenets_jax.models.scaling import ScalingConvention, scale
from mobilenets_jax.models.specs import BlockSpec, ConvSpec, NetworkSpec, SqueezeExciteSpec
from mobilenets_jax.models.squeeze_excite import SqueezeExcite


class GhostModule(nn.Module):
    """A 1x1 convolution to half of the features, and a depthwise one of these for the other half.

    Attributes:
        features: output channels; of an odd number the first half is the larger.
        activation: a key of `mobilenets_jax.ops.ACTIVATIONS`, after both.
        settings: shared by the network.
        dilation: spacing of the depthwise kernel's taps, in pixels.
    """

    features: int
    activation: str
    settings: LayerSettings
    dilation: int

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
        """Maps `inputs` [N, H, W, C] to [N, H, W, features]."""
        half = -(-self.features // 2)
        primary = ConvNorm(half, self.activation, self.settings, name='primary')(inputs, train=train)
        cheap = ConvNorm(
            half,
            self.activation,
            self.settings,
            kernel_size=3,
            dilation=self.dilation,
            depthwise=True,
            name='cheap',
        )(primary, train=train)
        return jnp.concatenate([primary, cheap], axis=-1)[..., : self.features]


@register_block('ghost_bottleneck')
class GhostBottleneck(Block):
    """Ghost expansion[, depthwise at stride 2][, squeeze-excite], linear ghost projection, and a shortcut."""

    row: BlockSpec

    @staticmethod
    def is_residual(row: BlockSpec, in_channels: int) -> bool:
        """See `Block`; the shortcut of some is a convolution."""
        del row, in_channels
        return True

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """See `Block`; the tap is `expansion`."""
        row, in_channels = self.row, inputs.shape[-1]
        ghost = functools.partial(GhostModule, settings=self.settings, dilation=self.dilation)
        depthwise = functools.partial(self.spatial, activation='linear', kernel_size=row.kernel_size)
        x = expansion = ghost(row.expanded, row.activation, name='expand')(inputs, train=train)
        if row.stride == 2:
            x = depthwise(row.expanded, name='depthwise')(x, train=train)
        if row.squeeze_excite is not None:
            x = SqueezeExcite(row.squeeze_excite, in_channels, self.settings, name='se')(x)
        x = ghost(row.out_channels, 'linear', name='project')(x, train=train)
        shortcut = inputs
        if row.stride == 2 or row.out_channels != in_channels:
            shortcut = depthwise(in_channels, name='shortcut_depthwise')(shortcut, train=train)
            shortcut = self.pointwise(row.out_channels, 'linear', name='shortcut_pointwise')(shortcut, train=train)
        return self.drop_path(x, train=train) + shortcut, {'expansion': expansion}


def _row(k: int, exp: int, out: int, se: str, s: int) -> BlockSpec:
    return BlockSpec(
        kind='ghost_bottleneck',
        kernel_size=k,
        expanded=exp,
        out_channels=out,
        squeeze_excite=SqueezeExciteSpec(divisor=4) if se == 'SE' else None,
        activation='relu',
        stride=s,
    )


_scaling = functools.partial(ScalingConvention, divisor=4, expansion='table', last_channels='kept')

CONVENTIONS = {
    'tf': _scaling(bn_momentum=0.9997, initializer='torchvision'),
    'timm': _scaling(padding='symmetric', bn_momentum=0.9, bn_epsilon=1e-5, initializer='torchvision'),
}

TABLE = NetworkSpec(
    stem=ConvSpec(channels=16, kernel_size=3, stride=2, activation='relu'),
    blocks=(
        # k, exp, out, SE, s
        _row(3, 16, 16, '-', 1),  # C1
        _row(3, 48, 24, '-', 2),
        _row(3, 72, 24, '-', 1),  # C2
        _row(5, 72, 40, 'SE', 2),
        _row(5, 120, 40, 'SE', 1),  # C3
        _row(3, 240, 80, '-', 2),
        _row(3, 200, 80, '-', 1),
        _row(3, 184, 80, '-', 1),
        _row(3, 184, 80, '-', 1),
        _row(3, 480, 112, 'SE', 1),
        _row(3, 672, 112, 'SE', 1),  # C4
        _row(5, 672, 160, 'SE', 2),  # C4/expansion
        _row(5, 960, 160, '-', 1),
        _row(5, 960, 160, 'SE', 1),
        _row(5, 960, 160, '-', 1),
        _row(5, 960, 160, 'SE', 1),
    ),
    head_conv=ConvSpec(channels=960, activation='relu'),  # C5
    pre_logits=1280,
    head_activation='relu',
    dropout_rate=0.2,
    convention=CONVENTIONS['tf'],
)

_PAPER = '1911.11907'

ARCHITECTURES = (
    Architecture(
        name='ghostnet',
        build=functools.partial(scale, TABLE),
        conventions=CONVENTIONS,
        published={
            (1.3, 224): Published(params=7.3, madds=226, top1=75.7, source=_PAPER),
            (1.0, 224): Published(params=5.2, madds=141, top1=73.9, source=_PAPER),
            (0.5, 224): Published(params=2.6, madds=42, top1=66.2, source=_PAPER),
        },
    ),
)
