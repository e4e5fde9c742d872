"""ResNet-50 and SE-ResNet-50: the bottleneck that the mobile blocks turn inside out, without and with squeeze-excite.

Paper: He et al., 1512.03385, Table 1; Hu et al., Squeeze-and-Excitation Networks, 1709.01507, Table 1.
Reference: torchvision 0.28 models/resnet.py; timm models/resnet.py@aa4b585 (`seresnet50`).
Differs: a strided block strides in its 3x3 convolution, as in all of today's code; the paper's 1x1 has 6 % fewer
    multiply-adds.
"""

import functools

import flax.linen as nn
import jax

from mobilenets_jax.models.architecture import Architecture, Published
from mobilenets_jax.models.blocks import Block, register_block
from mobilenets_jax.models.scaling import ScalingConvention, scale
from mobilenets_jax.models.specs import BlockSpec, ConvSpec, NetworkSpec, SqueezeExciteSpec
from mobilenets_jax.models.squeeze_excite import SqueezeExcite
from mobilenets_jax.ops import ACTIVATIONS


@register_block('bottleneck')
class Bottleneck(Block):
    """Reduce (1x1), k x k, expand (1x1, linear)[, squeeze-excite], added to a shortcut, then the activation."""

    row: BlockSpec

    @staticmethod
    def is_residual(row: BlockSpec, in_channels: int) -> bool:
        """See `Block`; the shortcut of some is a convolution."""
        del row, in_channels
        return True

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """See `Block`; no taps."""
        row, in_channels = self.row, inputs.shape[-1]
        spatial = functools.partial(self.spatial, depthwise=False)
        x = self.pointwise(row.expanded, row.activation, name='reduce')(inputs, train=train)
        x = spatial(row.expanded, row.activation, kernel_size=row.kernel_size, name='spatial')(x, train=train)
        x = self.pointwise(row.out_channels, 'linear', name='expand')(x, train=train)
        if row.squeeze_excite is not None:
            x = SqueezeExcite(row.squeeze_excite, in_channels, self.settings, name='se')(x)
        shortcut = inputs
        if row.stride == 2 or row.out_channels != in_channels:
            shortcut = spatial(row.out_channels, 'linear', kernel_size=1, name='shortcut')(shortcut, train=train)
        return ACTIVATIONS[row.activation](self.drop_path(x, train=train) + shortcut), {}


def _stage(channels: int, repeats: int, stride: int) -> tuple[BlockSpec, ...]:
    return tuple(
        BlockSpec(
            kind='bottleneck',
            kernel_size=3,
            expanded=channels,
            out_channels=4 * channels,
            activation='relu',
            stride=stride if i == 0 else 1,
        )
        for i in range(repeats)
    )


_CONVENTION = ScalingConvention(
    padding='symmetric', bn_momentum=0.9, bn_epsilon=1e-5, initializer='torchvision', expansion='table'
)

TABLE = NetworkSpec(
    stem=ConvSpec(channels=64, kernel_size=7, stride=2, activation='relu'),  # C1
    stem_pool=True,
    blocks=(
        # channels, blocks, stride
        *_stage(64, 3, 1),  # C2
        *_stage(128, 4, 2),  # C3
        *_stage(256, 6, 2),  # C4
        *_stage(512, 3, 2),  # C5
    ),
    dropout_rate=0.0,
    convention=_CONVENTION,
)

SQUEEZE_EXCITE = SqueezeExciteSpec(reduction=16, divisor=1, gate='sigmoid')

_SENET = '1709.01507'
_STRIDE_NOTE = (
    'The paper prints 3.86G multiply-adds, 3.87G with SE: its strides are in 1x1 convolutions, '
    'where ours are in the 3x3: 4.09G.'
)

ARCHITECTURES = (
    Architecture(
        name='resnet50',
        build=functools.partial(scale, TABLE),
        conventions={'tf': _CONVENTION, 'torchvision': _CONVENTION, 'timm': _CONVENTION},
        published={(1.0, 224): Published(madds=3860, top1=75.2, source=_SENET)},
        notes=(_STRIDE_NOTE,),
    ),
    Architecture(
        name='se_resnet50',
        build=functools.partial(scale, TABLE.replace_rows(squeeze_excite=SQUEEZE_EXCITE)),
        conventions={'tf': _CONVENTION, 'timm': _CONVENTION},
        published={(1.0, 224): Published(madds=3870, top1=76.71, source=_SENET)},
        notes=(_STRIDE_NOTE,),
    ),
)
