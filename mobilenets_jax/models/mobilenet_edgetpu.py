"""MobileNet-EdgeTPU: inverted residuals that begin with a dense convolution in the place of expansion and depthwise.

Paper: none; announced with MobileNetV3 (1905.02244) for accelerators that run dense convolutions best.
Reference: tensorflow/models research/slim/nets/mobilenet/mobilenet_v3.py@03cdc5f (`V3_EDGETPU`).
"""

import functools

import flax.linen as nn
import jax

from mobilenets_jax.models.architecture import Architecture, Published
from mobilenets_jax.models.blocks import ResidualBlock, register_block
from mobilenets_jax.models.scaling import ScalingConvention, scale
from mobilenets_jax.models.specs import BlockSpec, ConvSpec, NetworkSpec, stage


@register_block('dense_inverted_residual')
class FusedInvertedResidual(ResidualBlock):
    """Expand with a dense k x k convolution, project (1x1, linear), with a residual where shapes allow it.

    Where the middle is as wide as the input there is no expansion, and the projection is all.
    """

    row: BlockSpec

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """See `Block`; no taps."""
        row, x = self.row, inputs
        if row.expanded != inputs.shape[-1]:
            expand = functools.partial(self.spatial, kernel_size=row.kernel_size, depthwise=False)
            x = expand(row.expanded, row.activation, name='expand')(x, train=train)
        x = self.pointwise(row.out_channels, 'linear', name='project')(x, train=train)
        return self.with_residual(x, inputs, train=train), {}


_stage = functools.partial(stage, kernel_size=3, activation='relu')
_dense = functools.partial(_stage, kind='dense_inverted_residual')

CONVENTIONS = {'tf': ScalingConvention(bn_momentum=0.997)}

TABLE = NetworkSpec(
    stem=ConvSpec(channels=32, kernel_size=3, stride=2, activation='relu'),
    blocks=(
        # in, t, c, n, s
        *_dense(32, 1, 16, 1, 1),  # C1
        *_dense(16, 8, 32, 1, 2),
        *_dense(32, 4, 32, 3, 1),  # C2
        *_dense(32, 8, 48, 1, 2),
        *_dense(48, 4, 48, 3, 1),  # C3
        *_stage(48, 8, 96, 1, 2),
        *_stage(96, 4, 96, 3, 1),
        *_stage(96, 8, 96, 1, 1, residual=False),
        *_stage(96, 4, 96, 3, 1),  # C4
        *_stage(96, 8, 160, 1, 2, kernel_size=5),  # C4/expansion
        *_stage(160, 4, 160, 3, 1, kernel_size=5),
        *_stage(160, 8, 192, 1, 1),
    ),
    head_conv=ConvSpec(channels=1280, activation='relu'),  # C5
    dropout_rate=0.2,
    convention=CONVENTIONS['tf'],
)

_SLIM = 'slim mobilenet/README.md@0ba83cf'

ARCHITECTURES = (
    Architecture(
        name='mobilenet_edgetpu',
        build=functools.partial(scale, TABLE),
        conventions=CONVENTIONS,
        published={
            (1.0, 224): Published(params=4.0, madds=990, top1=75.6, source=_SLIM),
            (0.75, 224): Published(params=2.9, madds=624, top1=73.5, source=f'{_SLIM} (8-bit)'),
        },
        notes=(
            'The slim README prints 4.0M and 2.9M parameters (widths 1.0 and 0.75); its table has 4.09M and 2.99M.',
        ),
    ),
)
