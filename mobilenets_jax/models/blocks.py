"""What the blocks of all families are made with, and the block of each kind of row."""

from collections.abc import Callable

import flax.linen as nn
import jax

from mobilenets_jax.models.layers import ConvNorm, LayerSettings
from mobilenets_jax.models.specs import Row
from mobilenets_jax.ops import average_pool


class Block(nn.Module):
    """The base of the families' blocks.

    A block maps [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), row.out_channels]. It is called with
    `(inputs, train=...)` and returns its output and a dict of the named arrays inside of it.

    Attributes:
        row: the block's line of the table.
        settings: shared by the network.
        stride: in pixels; that of the row, or 1 where it became a dilation.
        dilation: spacing of the taps of the kernels larger than 1x1, in pixels.
    """

    row: Row
    settings: LayerSettings
    stride: int
    dilation: int

    def pointwise(self, features: int, activation: str, *, name: str) -> ConvNorm:
        """A 1x1 convolution, normalisation, activation."""
        return ConvNorm(features, activation, self.settings, name=name)

    def spatial(
        self, features: int, activation: str, *, kernel_size: int = 3, depthwise: bool = True, name: str
    ) -> ConvNorm:
        """A k x k convolution at the block's stride and dilation, normalisation, activation."""
        return ConvNorm(
            features,
            activation,
            self.settings,
            kernel_size=kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            depthwise=depthwise,
            name=name,
        )

    def with_residual(self, outputs: jax.Array, inputs: jax.Array) -> jax.Array:
        """The outputs of a `BlockSpec`'s block, with its inputs added where the row asks for it and shapes allow it."""
        if not self.row.adds_residual(inputs.shape[-1]):
            return outputs
        inputs = inputs.astype(self.settings.dtype)
        if self.row.residual_pool:
            inputs = average_pool(inputs, 3, stride=1, padding=self.settings.pads(3))
        return outputs + inputs


BLOCKS: dict[str, type[Block]] = {}


def register_block(kind: str) -> Callable[[type[Block]], type[Block]]:
    """A decorator: rows of the kind are made by the class.

    Raises:
        ValueError: another class makes them.
    """

    def register(block: type[Block]) -> type[Block]:
        if kind in BLOCKS:
            raise ValueError(f'{kind!r} is the kind of {BLOCKS[kind].__name__}, not of {block.__name__}.')
        BLOCKS[kind] = block
        return block

    return register
