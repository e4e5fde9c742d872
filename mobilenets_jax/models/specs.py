"""Architectures as data: the rows of a table, the network around them, and the rules that implementations follow.

Plain Python: nothing here imports JAX. A published table is a tuple of rows in the paper's column order;
`scaling.scale` turns it into the table of another width. Where implementations of one paper differ, the difference is a
named field of a `Convention`, because published weights depend on it.

Reference: `_make_divisible` of tensorflow/models research/slim/nets/mobilenet/mobilenet.py@02c04f4.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from mobilenets_jax.errors import check, check_choice

PADDINGS = ('same', 'symmetric')
RECTIFIERS = ('relu', 'relu6')
INITIALIZERS = (
    *('slim', 'torchvision', 'keras', 'fan_out', 'deeplab', 'torch', 'megvii'),
    *('object_detection', 'ssdlite', 'small_normal'),
)


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
    """How a squeeze-and-excitation module is built.

    Attributes:
        reduction: the squeeze has 1/reduction of the channels it is measured by.
        relative_to: 'gated' (MobileNetV3: the channels that are scaled) or 'input' (MnasNet: the block's input).
        divisor: the squeeze is rounded to a multiple of it; 1 truncates to an integer, at least 1.
        gate: the activation that gives the scale.
    """

    reduction: int = 4
    relative_to: str = 'gated'
    divisor: int = 8
    gate: str = 'hard_sigmoid'

    def __post_init__(self):
        check(self.reduction > 0, 'reduction', self.reduction, 'must be positive')
        check_choice('relative_to', self.relative_to, ('gated', 'input'))

    def squeezed(self, in_channels: int, gated_channels: int) -> int:
        """The width of the squeeze that scales `gated_channels` inside of a block of `in_channels`."""
        width = {'gated': gated_channels, 'input': in_channels}[self.relative_to] / self.reduction
        return max(1, int(width)) if self.divisor == 1 else make_divisible(width, self.divisor)


class Row(Protocol):
    """What every row of a table has, whatever its block."""

    @property
    def kind(self) -> str:
        """The block, a key of `mobilenets_jax.models.blocks.BLOCKS`."""
        ...

    @property
    def stride(self) -> int:
        """1 or 2, of the whole block."""
        ...

    @property
    def out_channels(self) -> int:
        """Channels of the block's output."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """One row of most papers' tables, with absolute channel counts.

    Attributes:
        kind: the block, a key of `mobilenets_jax.models.blocks.BLOCKS`.
        kernel_size: of the convolution in the middle, odd.
        expanded: channels in the middle of the block (the papers' 'exp size'); equal to the input's where the block has
            no expansion, and to the output's where it has no middle.
        out_channels: channels of the block's output.
        squeeze_excite: how the block's SE is built, or None.
        activation: a key of `mobilenets_jax.ops.ACTIVATIONS` (the papers' 'NL').
        stride: 1 or 2.
        residual: whether the input is added where shape and stride allow it.
        residual_pool: whether the mean of 3x3 pixels of the input is added in its place (MnasNet's space alone).
    """

    kind: str = 'inverted_residual'
    kernel_size: int
    expanded: int
    out_channels: int
    squeeze_excite: SqueezeExciteSpec | None = None
    activation: str
    stride: int
    residual: bool = True
    residual_pool: bool = False

    def __post_init__(self):
        check(self.kernel_size % 2 == 1, 'kernel_size', self.kernel_size, 'must be odd')
        check_choice('stride', self.stride, (1, 2))
        check(min(self.expanded, self.out_channels) > 0, 'out_channels', self.out_channels, 'must be positive')

    def adds_residual(self, in_channels: int) -> bool:
        """Whether the input, with `in_channels` channels, is added to the output."""
        return self.residual and self.stride == 1 and self.out_channels == in_channels


def stage(
    in_channels: int, expand_ratio: int, out_channels: int, repeats: int, stride: int, **fields
) -> tuple[BlockSpec, ...]:
    """The rows of one line of a table that gives (t, c, n, s): `repeats` blocks, the first at `stride`.

    Args:
        in_channels: channels of the first block's input.
        expand_ratio: the middle of each block has this many times the channels of its input.
        out_channels: of every block.
        repeats: the number of blocks.
        stride: of the first block; the others have 1.
        **fields: the other fields of `BlockSpec`.
    """
    return tuple(
        BlockSpec(
            expanded=expand_ratio * (in_channels if i == 0 else out_channels),
            out_channels=out_channels,
            stride=stride if i == 0 else 1,
            **fields,
        )
        for i in range(repeats)
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convention:
    """The rules in which implementations of one paper differ, for all papers.

    Attributes:
        padding: 'same' (TensorFlow: the odd row and column go to the bottom and right) or 'symmetric' (PyTorch).
        bn_momentum: decay of the running statistics, Flax's meaning (0.99 is PyTorch's 0.01).
        bn_epsilon: added to the variance.
        initializer: a key of `mobilenets_jax.models.layers.INITIALIZERS`.
        dilate_strided_block: whether a block whose stride became a dilation uses the new rate itself (torchvision) or
            the rate of its input (slim).
        activation: 'relu' or 'relu6', what stands for both of them everywhere in the table; None: the table's own.
    """

    padding: str = 'same'
    bn_momentum: float = 0.997
    bn_epsilon: float = 1e-3
    initializer: str = 'slim'
    dilate_strided_block: bool = False
    activation: str | None = None

    def __post_init__(self):
        check_choice('padding', self.padding, PADDINGS)
        check_choice('activation', self.activation, (None, *RECTIFIERS))
        check_choice('initializer', self.initializer, INITIALIZERS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A whole classification network at one width.

    Attributes:
        stem: the first convolution.
        stem_pool: whether a 3x3 maximum over every second pixel follows the stem.
        blocks: the table, a `Row` each, of the class that the family's block has.
        head_conv: the convolution on the last feature map (V2's 1280, V3's 960), or None.
        pre_logits: channels of the biased, un-normalised layer after pooling (V3's 1280 or 1024), or None.
        head_activation: the activation of `pre_logits`.
        classifier_bias: whether the logits have a bias.
        dropout_rate: the fraction dropped before the logits.
        convention: the rules that the table, its padding and its normalisation follow.
    """

    stem: ConvSpec
    stem_pool: bool = False
    blocks: Sequence[Any]
    head_conv: ConvSpec | None = None
    pre_logits: int | None = None
    head_activation: str = 'linear'
    classifier_bias: bool = True
    dropout_rate: float
    convention: Convention

    def replace_rows(self, **changes) -> 'NetworkSpec':
        """The same network with fields of every row replaced."""
        return dataclasses.replace(self, blocks=tuple(dataclasses.replace(row, **changes) for row in self.blocks))

    def with_rectifier(self, activation: str) -> 'NetworkSpec':
        """The same network with `activation` in the place of every ReLU and ReLU6."""

        def changed(layer):
            return dataclasses.replace(layer, activation=activation) if layer.activation in RECTIFIERS else layer

        fits = all(isinstance(row, BlockSpec) for row in self.blocks)
        check(fits, 'model.activation', activation, 'does not fit this network, whose blocks have their own')
        return dataclasses.replace(
            self,
            stem=changed(self.stem),
            blocks=tuple(map(changed, self.blocks)),
            head_conv=self.head_conv and changed(self.head_conv),
            head_activation=activation if self.head_activation in RECTIFIERS else self.head_activation,
        )

    def remove_first_strides(self, count: int) -> 'NetworkSpec':
        """The same network with stride 1 in its stem and in `count - 1` blocks after it, for images of 32 pixels."""
        if count == 0:
            return self
        strided = [index for index, row in enumerate(self.blocks) if row.stride == 2][: count - 1]
        fits = self.stem.stride == 2 and not self.stem_pool and count == 1 + len(strided)
        fits = fits and all(isinstance(self.blocks[index], BlockSpec) for index in strided)
        check(fits, 'model.num_removed_strides', count, 'does not fit this network')
        blocks = [
            dataclasses.replace(row, stride=1) if index in strided else row for index, row in enumerate(self.blocks)
        ]
        return dataclasses.replace(self, stem=dataclasses.replace(self.stem, stride=1), blocks=tuple(blocks))
