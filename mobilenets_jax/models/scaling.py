"""The width multiplier: how a published table becomes the table of another width, by each implementation's rules.

Reference: `expand_input_by_factor` of tensorflow/models research/slim/nets/mobilenet/conv_blocks.py@10cf1c0; `_depth`
    of keras applications/mobilenet_v3.py@3422977; `InvertedResidualConfig.adjust_channels` of torchvision 0.28
    models/mobilenetv3.py; `_gen_mobilenet_v3` of timm models/mobilenetv3.py@aa4b585.
"""

import dataclasses

from mobilenets_jax.errors import check_choice
from mobilenets_jax.models.specs import BlockSpec, Convention, ConvSpec, NetworkSpec, make_divisible

# Below this width timm keeps the stem of MobileNetV3.
TIMM_SCALED_STEM = 0.75

_CHOICES = {
    'rounding': ('divisible', 'truncate'),
    'stem': ('scaled', 'fixed', 'fixed_when_narrow'),
    'expansion': ('ratio', 'table'),
    'head_conv': ('scaled', 'six_times_last'),
    'last_channels': ('kept_below_one', 'scaled', 'kept'),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingConvention(Convention):
    """A convention of a network whose width scales by a multiplier.

    Attributes:
        rounding: 'divisible' (`make_divisible` by `divisor`) or 'truncate' (integer part, at least 8).
        divisor: channel counts are multiples of it.
        stem: 'scaled' with the width, 'fixed', or 'fixed_when_narrow' (below width 0.75).
        expansion: 'ratio' scales the input's scaled width by the table's expansion ratio; 'table' scales the table's
            expanded width itself.
        head_conv: 'scaled' (the table's width) or 'six_times_last' (six times the last block's scaled output).
        last_channels: the last layer before the logits is 'kept_below_one' (scaled above width 1.0 only), 'scaled' or
            'kept'.
    """

    rounding: str = 'divisible'
    divisor: int = 8
    stem: str = 'scaled'
    expansion: str = 'ratio'
    head_conv: str = 'scaled'
    last_channels: str = 'kept_below_one'

    def __post_init__(self):
        super().__post_init__()
        for field, choices in _CHOICES.items():
            check_choice(field, getattr(self, field), choices)

    def round(self, channels: float) -> int:
        """Rounds a scaled channel count."""
        return max(int(channels), 8) if self.rounding == 'truncate' else make_divisible(channels, self.divisor)

    def scale_stem(self, channels: int, width_multiplier: float) -> int:
        """The width of the stem."""
        narrow = width_multiplier < TIMM_SCALED_STEM
        fixed = self.stem == 'fixed' or (self.stem == 'fixed_when_narrow' and narrow)
        return channels if fixed else self.round(channels * width_multiplier)

    def scale_last(self, channels: int, width_multiplier: float) -> int:
        """The width of the last layer before the logits."""
        factor = {'kept_below_one': max(1.0, width_multiplier), 'scaled': width_multiplier, 'kept': 1.0}
        return self.round(channels * factor[self.last_channels])


def scale(table: NetworkSpec, width_multiplier: float, convention: ScalingConvention) -> NetworkSpec:
    """The table of another width under a convention.

    Every block's input width is the previous block's scaled output; the expansion follows from it (see
    `ScalingConvention.expansion`). The ratio is taken as `scaled_in * expanded / in`, exactly rounded, so that the tie
    at x.5 multiples falls as it does in the authors' code.

    Args:
        table: the published table, at width 1.0, of `BlockSpec` rows.
        width_multiplier: positive; 1.0 gives the published widths back.
        convention: whose rules.
    """
    stem = _with_channels(table.stem, convention.scale_stem(table.stem.channels, width_multiplier))
    blocks = []
    table_in, scaled_in = table.stem.channels, stem.channels
    for row in table.blocks:
        out_channels = convention.round(row.out_channels * width_multiplier)
        if row.kind == 'dense_conv':  # which has no middle
            expanded = out_channels
        elif convention.expansion == 'ratio':
            expanded = convention.round(scaled_in * row.expanded / table_in)
        else:
            expanded = convention.round(row.expanded * width_multiplier)
        blocks.append(dataclasses.replace(row, expanded=expanded, out_channels=out_channels))
        table_in, scaled_in = row.out_channels, out_channels

    head_conv, pre_logits = _scale_head(table, width_multiplier, convention, blocks[-1])
    return dataclasses.replace(
        table, stem=stem, blocks=tuple(blocks), head_conv=head_conv, pre_logits=pre_logits, convention=convention
    )


def _scale_head(
    table: NetworkSpec, width_multiplier: float, convention: ScalingConvention, last_row: BlockSpec
) -> tuple[ConvSpec | None, int | None]:
    """The scaled `head_conv` and `pre_logits`; the last of them follows `last_channels`."""
    if table.head_conv is None:
        return None, None
    channels = table.head_conv.channels
    if table.pre_logits is None:
        return _with_channels(table.head_conv, convention.scale_last(channels, width_multiplier)), None
    if convention.head_conv == 'six_times_last':
        channels = 6 * last_row.out_channels
    else:
        channels = convention.round(channels * width_multiplier)
    return _with_channels(table.head_conv, channels), convention.scale_last(table.pre_logits, width_multiplier)


def _with_channels(conv: ConvSpec, channels: int) -> ConvSpec:
    return dataclasses.replace(conv, channels=channels)
