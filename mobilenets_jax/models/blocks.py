"""What the blocks of all families are made with."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax

from mobilenets_jax.models.layers import ConvNorm, LayerSettings, train_in_turn
from mobilenets_jax.models.specs import Row
from mobilenets_jax.ops import convolve_in_turn, runs_in_strips


class Block(nn.Module):
    """The base of the families' blocks.

    A block maps [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), row.out_channels]. It is called with
    `(inputs, train=...)` and returns its output and a dict of the taps inside of it.

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

    def pointwise_unit(self, features: int, activation: str, *, name: str) -> ConvNorm:
        """A 1x1 convolution, normalisation, activation."""
        return ConvNorm(features, activation, self.settings, name=name)

    def spatial_unit(
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

    def residual(self, inputs: jax.Array) -> jax.Array | None:
        """The block's inputs, if they are added in the end: where the row asks for it, and shapes allow it."""
        may_add = self.row.residual and self.row.stride == 1 and self.row.out_channels == inputs.shape[-1]
        return inputs.astype(self.settings.dtype) if may_add else None

    def in_turn(
        self, units: Mapping[str, ConvNorm], inputs: jax.Array, *, train: bool, residual: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Applies units one after the other, and adds the residual to the outputs of the last.

        Returns its output, and a dict of all outputs by the names of `units`.

        Both training and evaluation do it as one operation where that is faster. The outputs between are computed for
        themselves then, which costs nothing if nobody asks for them: compiled programs leave out what has no use.
        """
        inputs = inputs.astype(self.settings.dtype)
        fuse = self.settings.fuse and not self.is_initializing()
        if fuse and train:
            trained = self._train_in_turn(list(units.values()), inputs, residual)
            return trained[-1], dict(zip(units, trained, strict=True))
        outputs, steps, x = {}, [], inputs
        for name, unit in units.items():
            added = residual if len(outputs) + 1 == len(units) else None
            if fuse:
                steps.append(unit.evaluation_step(x, added))
            x = outputs[name] = unit(x, train=train, residual=added)
        if fuse and runs_in_strips(inputs, steps):
            x = convolve_in_turn(inputs, steps)
        return x, outputs

    def _train_in_turn(
        self, units: Sequence[ConvNorm], inputs: jax.Array, residual: jax.Array | None
    ) -> list[jax.Array]:
        """The outputs of each unit, the residual added to those of the last."""
        channels = [inputs.shape[-1], *(unit.features for unit in units)]
        parts = [unit.training_unit(count) for unit, count in zip(units, channels[:-1], strict=True)]
        return train_in_turn([unit.bn for unit in units], parts, inputs, residual)
