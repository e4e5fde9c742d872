"""ShuffleNetV2: half of the channels pass each unit untouched, and a shuffle mixes the halves.

Paper: Ma et al., ShuffleNet V2, 1807.11164, Table 5.
Reference: megvii-model/ShuffleNet-Series@aa91feb (`ShuffleNetV2/network.py`, `blocks.py`); torchvision 0.28
    models/shufflenetv2.py.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from mobilenets_jax.errors import check_choice
from mobilenets_jax.models.architecture import Architecture, Published
from mobilenets_jax.models.blocks import Block, register_block
from mobilenets_jax.models.specs import Convention, ConvSpec, NetworkSpec
from mobilenets_jax.ops import alternating_channels, deal_channels


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShuffleV2Spec:
    """One unit.

    Attributes:
        shortcut_channels: of the branch that passes (stride 1) or only shrinks (stride 2) its input.
        out_channels: of both branches together; the middle of the other branch has half of them.
        stride: 1 or 2.
        shuffle: 'after' the branches are joined, or 'before' they part.
        kind: the block, a key of `mobilenets_jax.models.blocks.BLOCKS`.
    """

    shortcut_channels: int
    out_channels: int
    stride: int
    shuffle: str
    kind: str = 'shuffle_v2'


@register_block('shuffle_v2')
class ShuffleV2Unit(Block):
    """A shortcut branch, and a branch of 1x1, depthwise (linear), 1x1; concatenated and shuffled."""

    row: ShuffleV2Spec

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """See `Block`; no taps."""
        row = self.row
        if row.stride == 2:
            shortcut = self.spatial(inputs.shape[-1], 'linear', name='shortcut_depthwise')(inputs, train=train)
            shortcut = self.pointwise(row.shortcut_channels, 'relu', name='shortcut_pointwise')(shortcut, train=train)
            x = inputs
        elif row.shuffle == 'before':
            shortcut, x = alternating_channels(inputs, 2)
        else:
            shortcut, x = jnp.split(inputs, 2, axis=-1)
        middle = row.out_channels // 2
        x = self.pointwise(middle, 'relu', name='compress')(x, train=train)
        x = self.spatial(middle, 'linear', name='depthwise')(x, train=train)
        x = self.pointwise(row.out_channels - row.shortcut_channels, 'relu', name='expand')(x, train=train)
        outputs = jnp.concatenate([shortcut, x], axis=-1)
        return deal_channels(outputs, 2) if row.shuffle == 'after' else outputs, {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShuffleV2Convention(Convention):
    """A convention of ShuffleNetV2.

    Attributes:
        unit: 'megvii' (the shortcut of a strided unit keeps its width; shuffle before the split; no bias in the
            classifier; dropout at width 2.0) or 'torchvision' (equal branches; shuffle after; bias; no dropout).
    """

    unit: str = 'megvii'

    def __post_init__(self):
        super().__post_init__()
        check_choice('unit', self.unit, ('megvii', 'torchvision'))


_MEGVII = ShuffleV2Convention(padding='symmetric', bn_momentum=0.9, bn_epsilon=1e-5, initializer='megvii')
CONVENTIONS = {
    'tf': _MEGVII,
    'megvii': _MEGVII,
    'torchvision': dataclasses.replace(_MEGVII, unit='torchvision', initializer='torchvision'),
}

STEM_CHANNELS = 24
REPEATS = (4, 8, 4)
# Table 5: stages 2, 3 and 4, and the last convolution, by width.
CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


def build(width_multiplier: float, convention: ShuffleV2Convention) -> NetworkSpec:
    """The network at one of the four widths of the paper."""
    *stages, last_channels = CHANNELS[width_multiplier]
    megvii = convention.unit == 'megvii'
    blocks, in_channels = [], STEM_CHANNELS
    for out_channels, repeats in zip(stages, REPEATS, strict=True):
        for i in range(repeats):
            blocks.append(
                ShuffleV2Spec(
                    shortcut_channels=in_channels if megvii and i == 0 else out_channels // 2,
                    out_channels=out_channels,
                    stride=2 if i == 0 else 1,
                    shuffle='before' if megvii else 'after',
                )
            )
            in_channels = out_channels
    return NetworkSpec(
        stem=ConvSpec(channels=STEM_CHANNELS, kernel_size=3, stride=2, activation='relu'),  # C1
        stem_pool=True,  # C2
        blocks=tuple(blocks),
        head_conv=ConvSpec(channels=last_channels, activation='relu'),  # C5
        classifier_bias=not megvii,
        dropout_rate=0.2 if megvii and width_multiplier == 2.0 else 0.0,
        convention=convention,
    )


_SOURCE = '1807.11164 Table 8'

ARCHITECTURES = (
    Architecture(
        name='shufflenet_v2',
        build=build,
        conventions=CONVENTIONS,
        widths=tuple(CHANNELS),
        published={
            (0.5, 224): Published(madds=41, top1=60.3, source=_SOURCE),
            (1.0, 224): Published(madds=146, top1=69.4, source=_SOURCE),
            (1.5, 224): Published(madds=299, top1=72.6, source=_SOURCE),
            (2.0, 224): Published(madds=591, top1=74.9, source=_SOURCE),
        },
        notes=(
            "The authors' code and torchvision build different strided units: 2,278,760 parameters and 145.8M "
            'multiply-adds against 2,278,604 and 144.9M at width 1.0; the paper prints 146M.',
        ),
    ),
)
