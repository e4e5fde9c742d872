"""Architectures as data: tables of blocks, the rules that scale them, and the conventions that published code follows.

Plain Python: nothing here imports JAX or the rest of the package. A published table (`NetworkSpec` at width 1.0) is a
tuple of `BlockSpec` rows in the paper's column order; `scale` turns it into the table of another width. Where
implementations of one paper differ, the difference is a named field of `Convention`, because published weights depend
on it.

Reference: `_make_divisible` and `expand_input_by_factor` of tensorflow/models research/slim/nets/mobilenet
    (mobilenet.py@02c04f4, conv_blocks.py@10cf1c0); `_depth` of keras applications/mobilenet_v3.py@3422977;
    `InvertedResidualConfig.adjust_channels` of torchvision 0.28 models/mobilenetv3.py.
"""

import dataclasses
from collections.abc import Mapping

from mobilenets_jax.errors import check, check_choice

PADDINGS = ('same', 'symmetric')
INITIALIZERS = ('slim', 'torchvision', 'keras')
# Fields of a `NetworkSpec` that a caller may replace by name, beside those of its `Convention`.
TABLE_FIELDS = frozenset({'pre_logits'})


def make_divisible(value: float, divisor: int = 8, minimum: int | None = None) -> int:
    """Rounds `value` to the nearest multiple of `divisor`, never below `minimum` nor more than 10 % down.

    Args:
        value: the channel count a width multiplier asks for, e.g. `24 * 0.75`.
        divisor: the result is a multiple of it.
        minimum: the least result; None means `divisor`.
    """
    minimum = divisor if minimum is None else minimum
    rounded = max(minimum, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvSpec:
    """A dense convolution with batch normalisation and activation: the stem, or the convolution before pooling."""

    channels: int
    kernel_size: int = 1
    stride: int = 1
    activation: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class SqueezeExciteSpec:
    """How a network's squeeze-and-excitation modules are built, wherever a row ticks SE.

    Attributes:
        reduction: the squeeze has 1/reduction of the channels it is measured by.
        relative_to: 'expanded' (MobileNetV3) or 'input' (MnasNet): the width that `reduction` divides.
        divisor: the squeeze is rounded to a multiple of it; 1 truncates to an integer, at least 1.
        gate: the activation that gives the scale.
    """

    reduction: int = 4
    relative_to: str = 'expanded'
    divisor: int = 8
    gate: str = 'hard_sigmoid'

    def squeezed(self, in_channels: int, expanded: int) -> int:
        """The width of the squeeze for a block of `in_channels` whose depthwise layer has `expanded` channels."""
        width = {'expanded': expanded, 'input': in_channels}[self.relative_to] / self.reduction
        return max(1, int(width)) if self.divisor == 1 else make_divisible(width, self.divisor)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """One row of a paper's table, with absolute channel counts.

    Attributes:
        kind: the block, a key of `mobilenets_jax.models.network.BLOCKS`.
        kernel_size: of the depthwise convolution, odd.
        expanded: channels of the depthwise convolution (the papers' 'exp size'); equal to the input's where the block
            has no expansion.
        out_channels: channels of the block's output.
        squeeze_excite: whether the row ticks SE.
        activation: a key of `mobilenets_jax.models.layers.ACTIVATIONS` (the papers' 'NL').
        stride: 1 or 2.
        residual: whether the input is added where shape and stride allow it.
    """

    kind: str = 'inverted_residual'
    kernel_size: int
    expanded: int
    out_channels: int
    squeeze_excite: bool = False
    activation: str
    stride: int
    residual: bool = True

    def __post_init__(self):
        check(self.kernel_size % 2 == 1, 'kernel_size', self.kernel_size, 'must be odd')
        check_choice('stride', self.stride, (1, 2))
        check(min(self.expanded, self.out_channels) > 0, 'out_channels', self.out_channels, 'must be positive')


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A whole classification network at one width.

    Attributes:
        name: the registered name.
        stem: the first convolution.
        blocks: the table.
        head_conv: the convolution on the last feature map (V2's 1280, V3's 960), or None.
        pre_logits: channels of the biased, un-normalised layer after pooling (V3's 1280 or 1024), or None.
        head_activation: the activation of `pre_logits`.
        dropout_rate: the fraction dropped before the logits.
        squeeze_excite: how the rows that tick SE are built.
        convention: the rules that the scaled table, its padding and its normalisation follow.
    """

    name: str
    stem: ConvSpec
    blocks: tuple[BlockSpec, ...]
    head_conv: ConvSpec | None = None
    pre_logits: int | None = None
    head_activation: str = 'linear'
    dropout_rate: float
    squeeze_excite: SqueezeExciteSpec = SqueezeExciteSpec()
    convention: 'Convention'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convention:
    """What implementations of one paper disagree on.

    Attributes:
        padding: 'same' (TensorFlow: the odd row and column go to the bottom and right) or 'symmetric' (PyTorch).
        bn_momentum: decay of the running statistics, Flax's meaning (0.99 is PyTorch's 0.01).
        bn_epsilon: added to the variance.
        initializer: a key of `mobilenets_jax.models.layers.INITIALIZERS`.
        rounding: 'divisible' (`make_divisible` by `divisor`) or 'truncate' (integer part, at least 8).
        divisor: channel counts are multiples of it.
        stem: 'scaled' with the width, or 'fixed'.
        expansion: 'ratio' scales the input's scaled width by the table's expansion ratio; 'table' scales the table's
            expanded width itself.
        head_conv: 'scaled' (the table's width) or 'six_times_last' (six times the last block's scaled output).
        last_channels: the last layer before the logits is 'kept_below_one' (scaled above width 1.0 only), 'scaled' or
            'kept'.
        dilate_strided_block: whether a block whose stride became a dilation uses the new rate itself (torchvision) or
            the rate of its input (slim).
    """

    padding: str = 'same'
    bn_momentum: float = 0.997
    bn_epsilon: float = 1e-3
    initializer: str = 'slim'
    rounding: str = 'divisible'
    divisor: int = 8
    stem: str = 'scaled'
    expansion: str = 'ratio'
    head_conv: str = 'scaled'
    last_channels: str = 'kept_below_one'
    dilate_strided_block: bool = False

    def __post_init__(self):
        for field, choices in _CONVENTION_CHOICES.items():
            check_choice(field, getattr(self, field), choices)

    def round(self, channels: float) -> int:
        """Rounds a scaled channel count by this convention."""
        return max(int(channels), 8) if self.rounding == 'truncate' else make_divisible(channels, self.divisor)

    def scale_last(self, channels: int, width_multiplier: float) -> int:
        """The width of the last layer before the logits."""
        factor = {'kept_below_one': max(1.0, width_multiplier), 'scaled': width_multiplier, 'kept': 1.0}
        return self.round(channels * factor[self.last_channels])


_CONVENTION_CHOICES = {
    'padding': PADDINGS,
    'initializer': INITIALIZERS,
    'rounding': ('divisible', 'truncate'),
    'stem': ('scaled', 'fixed'),
    'expansion': ('ratio', 'table'),
    'head_conv': ('scaled', 'six_times_last'),
    'last_channels': ('kept_below_one', 'scaled', 'kept'),
}


def scale(table: NetworkSpec, width_multiplier: float) -> NetworkSpec:
    """The table of another width, under the table's own convention.

    Every block's input width is the previous block's scaled output; the expansion follows from it (see
    `Convention.expansion`). The ratio is taken as `scaled_in * expanded / in`, exactly rounded, so that the tie at
    x.5 multiples falls as it does in the authors' code.

    Args:
        table: the published table, at width 1.0.
        width_multiplier: positive; 1.0 gives the published widths back.
    """
    rules = table.convention
    stem = table.stem
    if rules.stem == 'scaled':
        stem = dataclasses.replace(stem, channels=rules.round(stem.channels * width_multiplier))

    blocks = []
    table_in, scaled_in = table.stem.channels, stem.channels
    for row in table.blocks:
        if rules.expansion == 'ratio':
            expanded = rules.round(scaled_in * row.expanded / table_in)
        else:
            expanded = rules.round(row.expanded * width_multiplier)
        out_channels = rules.round(row.out_channels * width_multiplier)
        blocks.append(dataclasses.replace(row, expanded=expanded, out_channels=out_channels))
        table_in, scaled_in = row.out_channels, out_channels

    head_conv, pre_logits = table.head_conv, table.pre_logits
    if pre_logits is not None:
        pre_logits = rules.scale_last(pre_logits, width_multiplier)
    if head_conv is not None:
        if table.pre_logits is None:
            channels = rules.scale_last(head_conv.channels, width_multiplier)
        elif rules.head_conv == 'six_times_last':
            channels = 6 * scaled_in
        else:
            channels = rules.round(head_conv.channels * width_multiplier)
        head_conv = dataclasses.replace(head_conv, channels=channels)
    return dataclasses.replace(table, stem=stem, blocks=tuple(blocks), head_conv=head_conv, pre_logits=pre_logits)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """What a paper or its authors' code print about one row.

    Attributes:
        params: parameters in millions, as printed.
        madds: multiply-adds in millions, as printed.
        top1: ImageNet top-1 in percent, as printed.
        source: where it is printed.
    """

    params: float | None = None
    madds: float | None = None
    top1: float | None = None
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """A registered network: its table, the conventions it can follow, and what is published about it.

    Attributes:
        table: the paper's table at width 1.0, under convention 'tf'.
        conventions: the conventions by name; 'tf' is the default everywhere.
        published: what is printed, by (width multiplier, image size in pixels).
        notes: where the paper and the code disagree, one sentence each.
    """

    table: NetworkSpec
    conventions: Mapping[str, Convention]
    published: Mapping[tuple[float, int], Published] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def resolve(self, width_multiplier: float, convention: str, **fields) -> NetworkSpec:
        """The scaled table under a convention; fields of `Convention` and `TABLE_FIELDS` may be replaced by name.

        Raises:
            UserError: for a width that is not positive, an unknown convention or an unknown field.
        """
        check(width_multiplier > 0, 'width_multiplier', width_multiplier, 'must be positive')
        check_choice(f'convention of {self.table.name}', convention, self.conventions)
        rule_names = {field.name for field in dataclasses.fields(Convention)}
        for field in fields:
            check_choice(f'field of {self.table.name}', field, rule_names | TABLE_FIELDS)
        rules = {field: value for field, value in fields.items() if field in rule_names}
        changes = {field: value for field, value in fields.items() if field in TABLE_FIELDS}
        convention = dataclasses.replace(self.conventions[convention], **rules)
        return scale(dataclasses.replace(self.table, convention=convention, **changes), width_multiplier)
