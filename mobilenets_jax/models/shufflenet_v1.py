"""ShuffleNetV1: pointwise convolutions in groups, with the channels shuffled between them.

Paper: Zhang et al., ShuffleNet, 1707.01083, Table 1.
Reference: megvii-model/ShuffleNet-Series@aa91feb (`ShuffleNetV1/network.py`, `blocks.py`).
Differs: at width 0.5 and 0.25 with 2 or 4 groups some layers do not divide evenly; the first groups are one channel
    wider there. The shuffle is that of the code, which deals every g-th channel to a group; the paper's differs by a
    fixed permutation of the weights.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.models.architecture import Architecture, Published
from mobilenets_jax.models.blocks import Block, register_block
from mobilenets_jax.models.layers import BatchNorm, Conv, LayerSettings
from mobilenets_jax.models.specs import Convention, ConvSpec, NetworkSpec
from mobilenets_jax.ops import average_pool, channels_by_groups, group_width


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShuffleV1Spec:
    """One unit.

    Attributes:
        middle: channels of the depthwise convolution, a quarter of the output.
        out_channels: channels of the output; at stride 2 the pooled input is the first of them.
        groups: of the pointwise convolutions.
        first_groups: of the first of them: 1 in the network's first unit, whose input is narrow.
        stride: 1 or 2.
        kind: the block, a key of `mobilenets_jax.models.blocks.BLOCKS`.
    """

    middle: int
    out_channels: int
    groups: int
    first_groups: int
    stride: int
    kind: str = 'shuffle_v1'


class GroupedPointwise(nn.Module):
    """A 1x1 convolution in groups, normalisation, activation: each group is a matrix product of its own.

    Attributes:
        features: output channels.
        groups: at most 8.
        shuffled: whether group g takes every groups-th channel from g on, instead of a contiguous part.
        activation: a key of `ACTIVATIONS`.
        settings: shared by the network.
    """

    features: int
    groups: int
    shuffled: bool
    activation: str
    settings: LayerSettings

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
        """Maps `inputs` [N, H, W, C] to [N, H, W, features]."""
        inputs = inputs.astype(self.settings.dtype)
        outputs = []
        for group, part in enumerate(channels_by_groups(inputs, self.groups, self.shuffled)):
            width = group_width(self.features, self.groups, group)
            outputs.append(Conv(width, 1, 1, 1, False, self.settings, name=f'group{group + 1}')(part))
        x = jnp.concatenate(outputs, axis=-1)  # (N, H, W, features)
        return BatchNorm(self.activation, self.settings, name='bn')(x, train=train)


@register_block('shuffle_v1')
class ShuffleV1Unit(Block):
    """Grouped 1x1, shuffle, depthwise, grouped 1x1; added to the input, or at stride 2 concatenated to its average."""

    row: ShuffleV1Spec

    @staticmethod
    def is_residual(row: ShuffleV1Spec, in_channels: int) -> bool:
        """See `Block`."""
        del in_channels
        return row.stride == 1

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """See `Block`; no taps."""
        row, settings = self.row, self.settings
        x = GroupedPointwise(row.middle, row.first_groups, False, 'relu', settings, name='compress')(
            inputs, train=train
        )
        x = self.spatial(row.middle, 'linear', name='depthwise')(x, train=train)
        features = row.out_channels - (inputs.shape[-1] if row.stride == 2 else 0)
        x = GroupedPointwise(features, row.groups, True, 'linear', settings, name='expand')(x, train=train)
        if row.stride == 1:
            return nn.relu(self.drop_path(x, train=train) + inputs), {}
        pooled = average_pool(inputs, 3, stride=self.stride, padding=settings.pads(3))
        return jnp.concatenate([pooled, nn.relu(x)], axis=-1), {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShuffleV1Convention(Convention):
    """A convention of ShuffleNetV1.

    Attributes:
        channels: 'multiplied' (the stages by the width multiplier, the stem kept) or 'megvii' (its table).
        classifier_bias: whether the logits have a bias.
    """

    channels: str = 'multiplied'
    classifier_bias: bool = True

    def __post_init__(self):
        super().__post_init__()
        check_choice('channels', self.channels, ('multiplied', 'megvii'))


STAGE2_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # by groups; each later stage doubles them
STEM_CHANNELS = 24
REPEATS = (4, 8, 4)
# (stem, stage 2) by (groups, width multiplier).
MEGVII_CHANNELS = {
    (3, 0.5): (12, 120), (3, 1.0): (24, 240), (3, 1.5): (24, 360), (3, 2.0): (48, 480),
    (8, 0.5): (16, 192), (8, 1.0): (24, 384), (8, 1.5): (24, 576), (8, 2.0): (48, 768),
}  # fmt: skip

_PAPER = ShuffleV1Convention(padding='symmetric', bn_momentum=0.9, bn_epsilon=1e-5, initializer='megvii')
_MEGVII = dataclasses.replace(_PAPER, channels='megvii', classifier_bias=False)


def build(groups: int, width_multiplier: float, convention: ShuffleV1Convention) -> NetworkSpec:
    """The network with `groups` groups at a width."""
    if convention.channels == 'megvii':
        check_choice('(groups, width_multiplier) of megvii', (groups, width_multiplier), MEGVII_CHANNELS)
        stem_channels, channels = MEGVII_CHANNELS[groups, width_multiplier]
        stages = [channels, 2 * channels, 4 * channels]
    else:
        stem_channels = STEM_CHANNELS
        stages = [int(STAGE2_CHANNELS[groups] * factor * width_multiplier) for factor in (1, 2, 4)]
    check(stages[0] > stem_channels, 'width_multiplier', width_multiplier, 'leaves stage 2 narrower than the stem')
    blocks = [
        ShuffleV1Spec(
            middle=out_channels // 4,
            out_channels=out_channels,
            groups=groups,
            first_groups=1 if out_channels == stages[0] and i == 0 else groups,
            stride=2 if i == 0 else 1,
        )
        for out_channels, repeats in zip(stages, REPEATS, strict=True)
        for i in range(repeats)
    ]
    return NetworkSpec(
        stem=ConvSpec(channels=stem_channels, kernel_size=3, stride=2, activation='relu'),
        stem_pool=True,
        blocks=tuple(blocks),
        classifier_bias=convention.classifier_bias,
        dropout_rate=0.0,
        convention=convention,
    )


# By groups: multiply-adds in millions at width 1.0, and top-1 at widths 1.0, 0.5 and 0.25 (the paper prints errors).
_PUBLISHED = {
    1: (143, 66.4, 54.9, 42.9),
    2: (140, 67.3, 55.6, 43.2),
    3: (137, 67.4, 56.8, 45.0),
    4: (133, 67.2, 58.4, 45.8),
    8: (137, 67.6, 57.7, 47.3),
}


def _architecture(groups: int) -> Architecture:
    madds, *top1 = _PUBLISHED[groups]
    source = '1707.01083 Table 2'
    return Architecture(
        name=f'shufflenet_v1_g{groups}',
        build=functools.partial(build, groups),
        conventions={'tf': _PAPER} | ({'megvii': _MEGVII} if (groups, 1.0) in MEGVII_CHANNELS else {}),
        published={
            (1.0, 224): Published(madds=madds, top1=top1[0], source=source),
            (0.5, 224): Published(madds=38, top1=top1[1], source=source),
            (0.25, 224): Published(top1=top1[2], source=source),
        },
        notes=(
            'Width 0.5: the paper prints 38M multiply-adds; with its 24-channel stem the table has 42M to 44M, with '
            "megvii's stem of 12 channels 37.6M (3 groups).",
        )
        if groups == 1
        else (),
    )


ARCHITECTURES = tuple(_architecture(groups) for groups in STAGE2_CHANNELS)
