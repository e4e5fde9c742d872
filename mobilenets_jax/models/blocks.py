"""What the blocks of all families are made with, and the block of each kind of row.

Paper: drop path, Huang et al., Deep Networks with Stochastic Depth, 1603.09382.
Reference: timm layers/drop.py@aa4b585 (`drop_path`); torchvision 0.28 ops/stochastic_depth.py, mode 'row'.
Differs: the rates are those of timm's EfficientNetBuilder, but it counts the last convolution of MobileNetV3 as one
    more block, and timm's ResNet divides by one block less.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mobilenets_jax.models.layers import ConvNorm, LayerSettings
from mobilenets_jax.models.specs import BlockSpec, Row
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
        drop_path_rate: see `drop_path`, in [0, 1).
    """

    row: Row
    settings: LayerSettings
    stride: int
    dilation: int
    drop_path_rate: float = 0.0

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

    @staticmethod
    def is_residual(row: Any, in_channels: int) -> bool:
        """Whether the block of a row adds its input, of so many channels, to what it computes."""
        del row, in_channels
        return False

    def drop_path(self, computed: jax.Array, *, train: bool) -> jax.Array:
        """What a block has computed, before its input is added: in training 0 in some examples.

        Each example is dropped with the probability `drop_path_rate`; the others are scaled by 1 / (1 - rate), so that
        the mean stays. A network with a rate needs an rng named 'dropout' in training.

        Args:
            computed: [N, H, W, C].
            train: whether anything is dropped.
        """
        if not train or not self.drop_path_rate:
            return computed
        keep = 1 - self.drop_path_rate
        kept = jax.random.bernoulli(self.make_rng('dropout'), keep, (computed.shape[0], 1, 1, 1))
        return jnp.where(kept, computed / keep, jnp.zeros_like(computed))


class ResidualBlock(Block):
    """The base of the blocks that a `BlockSpec` describes and that add their input where it fits."""

    @staticmethod
    def is_residual(row: BlockSpec, in_channels: int) -> bool:
        """See `Block`."""
        return row.adds_residual(in_channels)

    def with_residual(self, computed: jax.Array, inputs: jax.Array, *, train: bool) -> jax.Array:
        """What the block has computed, with its inputs added where the row asks for it and shapes allow it."""
        row = self.row
        assert isinstance(row, BlockSpec)
        if not self.is_residual(row, inputs.shape[-1]):
            return computed
        inputs = inputs.astype(self.settings.dtype)
        if row.residual_pool:
            inputs = average_pool(inputs, 3, stride=1, padding=self.settings.pads(3))
        return self.drop_path(computed, train=train) + inputs


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
