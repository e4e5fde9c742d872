"""MnasNet-A1, -B1 and -small: searched inverted residuals, with squeeze-excite measured by the block's input.

Also the dense convolution that was searched beside them, which no published network has.

Paper: Tan et al., MnasNet, 1807.11626.
Reference: tensorflow/tpu models/official/mnasnet/mnasnet_models.py@7dc921f (block strings); torchvision 0.28
    models/mnasnet.py; timm models/efficientnet.py@aa4b585.
Differs: the tpu code decides the residual of small's first block by the block string's 16 input channels, though it has
    8; at widths of 0.5 and below that code adds one, this module never does under 'tf'.
"""

import dataclasses
import functools

import flax.linen as nn
import jax

from mobilenets_jax.models.architecture import Architecture, Published
from mobilenets_jax.models.blocks import ResidualBlock, register_block
from mobilenets_jax.models.scaling import ScalingConvention, scale
from mobilenets_jax.models.specs import BlockSpec, ConvSpec, NetworkSpec, SqueezeExciteSpec, stage
from mobilenets_jax.models.squeeze_excite import SqueezeExcite


@register_block('dense_conv')
class DenseConv(ResidualBlock):
    """A dense k x k convolution with normalisation and activation[, squeeze-excite], with a residual where it fits."""

    row: BlockSpec

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """See `Block`; no taps."""
        row = self.row
        spatial = self.spatial(
            row.out_channels, row.activation, kernel_size=row.kernel_size, depthwise=False, name='spatial'
        )
        x = spatial(inputs, train=train)
        if row.squeeze_excite is not None:
            x = SqueezeExcite(row.squeeze_excite, inputs.shape[-1], self.settings, name='se')(x)
        return self.with_residual(x, inputs, train=train), {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MnasConvention(ScalingConvention):
    """A convention of the MnasNets.

    Attributes:
        first_block_residual: whether the first block, where its widths allow, adds its input; only small's do.
    """

    first_block_residual: bool = False


CONVENTIONS = {
    'tf': MnasConvention(bn_momentum=0.99, initializer='fan_out', last_channels='kept'),
    'timm': MnasConvention(
        padding='symmetric',
        bn_momentum=0.9,
        bn_epsilon=1e-5,
        initializer='fan_out',
        last_channels='kept',
        first_block_residual=True,
    ),
}

# torchvision has B1 alone.
B1_CONVENTIONS = CONVENTIONS | {
    'torchvision': MnasConvention(
        padding='symmetric', bn_momentum=0.9997, bn_epsilon=1e-5, initializer='torchvision', last_channels='kept'
    )
}

_k3 = functools.partial(stage, kernel_size=3, activation='relu')
_k5 = functools.partial(stage, kernel_size=5, activation='relu')
_SE = SqueezeExciteSpec(relative_to='input', divisor=1, gate='sigmoid')


def _network(stem_channels: int, blocks, dropout_rate: float) -> NetworkSpec:
    return NetworkSpec(
        stem=ConvSpec(channels=stem_channels, kernel_size=3, stride=2, activation='relu'),
        blocks=blocks,
        head_conv=ConvSpec(channels=1280, activation='relu'),  # C5
        dropout_rate=dropout_rate,
        convention=CONVENTIONS['tf'],
    )


A1 = _network(
    32,
    (
        # in, t, c, n, s
        *_k3(32, 1, 16, 1, 1),  # C1
        *_k3(16, 6, 24, 2, 2),  # C2
        *_k5(24, 3, 40, 3, 2, squeeze_excite=_SE),  # C3, C3/depthwise
        *_k3(40, 6, 80, 4, 2),
        *_k3(80, 6, 112, 2, 1, squeeze_excite=_SE),  # C4
        *_k5(112, 6, 160, 3, 2, squeeze_excite=_SE),  # C4/expansion is the first block's
        *_k3(160, 6, 320, 1, 1),
    ),
    dropout_rate=0.2,
)

B1 = _network(
    32,
    (
        # in, t, c, n, s
        *_k3(32, 1, 16, 1, 1),  # C1
        *_k3(16, 3, 24, 3, 2),  # C2
        *_k5(24, 3, 40, 3, 2),  # C3, C3/depthwise
        *_k5(40, 6, 80, 3, 2),
        *_k3(80, 6, 96, 2, 1),  # C4
        *_k5(96, 6, 192, 4, 2),  # C4/expansion is the first block's
        *_k3(192, 6, 320, 1, 1),
    ),
    dropout_rate=0.2,
)

SMALL = _network(
    8,
    (
        # in, t, c, n, s
        *_k3(8, 1, 8, 1, 1),  # C1
        *_k3(8, 3, 16, 1, 2),  # C2
        *_k3(16, 6, 16, 2, 2),  # C3, C3/depthwise
        *_k5(16, 6, 32, 4, 2, squeeze_excite=_SE),
        *_k3(32, 6, 32, 3, 1, squeeze_excite=_SE),  # C4
        *_k5(32, 6, 88, 3, 2, squeeze_excite=_SE),  # C4/expansion is the first block's
        *_k3(88, 6, 144, 1, 1),
    ),
    dropout_rate=0.0,
)


def build(table: NetworkSpec, width_multiplier: float, convention: MnasConvention) -> NetworkSpec:
    """The table at a width; the stem is scaled, the 1280-wide convolution never."""
    first = dataclasses.replace(table.blocks[0], residual=convention.first_block_residual)
    table = dataclasses.replace(table, blocks=(first, *table.blocks[1:]))
    return scale(table, width_multiplier, convention)


_PAPER = '1807.11626'
_TPU = 'tpu models/official/mnasnet/README.md@7dc921f'
_TORCHVISION = 'torchvision 0.28 models/mnasnet.py'

ARCHITECTURES = (
    Architecture(
        name='mnasnet_a1',
        build=functools.partial(build, A1),
        conventions=CONVENTIONS,
        published={
            (1.4, 224): Published(madds=591.5, top1=77.2, source=_TPU),
            (1.0, 224): Published(params=3.9, madds=312, top1=75.2, source=_PAPER),
            (0.75, 224): Published(params=2.9, madds=226.7, top1=73.3, source=_TPU),
            (0.5, 224): Published(madds=105.2, top1=68.9, source=_TPU),
            (0.35, 224): Published(madds=63.2, top1=64.1, source=_TPU),
        },
        notes=('The paper prints 312M multiply-adds, the README of its code 315.2M; the table has 311.6M.',),
    ),
    Architecture(
        name='mnasnet_b1',
        build=functools.partial(build, B1),
        conventions=B1_CONVENTIONS,
        published={
            (1.3, 224): Published(params=6.28, madds=526, top1=76.506, source=_TORCHVISION),
            (1.0, 224): Published(params=4.38, madds=314, top1=73.456, source=_TORCHVISION),
            (0.75, 224): Published(params=3.17, madds=215, top1=71.180, source=_TORCHVISION),
            (0.5, 224): Published(params=2.22, madds=104, top1=67.734, source=_TORCHVISION),
        },
    ),
    Architecture(
        name='mnasnet_small',
        build=functools.partial(build, SMALL),
        conventions=CONVENTIONS,
        published={(1.0, 224): Published(params=2.0, madds=68, top1=66.0, source=f'{_PAPER} Table 4')},
        notes=('timm adds a residual around the first block, which the tpu code does not have.',),
    ),
)
