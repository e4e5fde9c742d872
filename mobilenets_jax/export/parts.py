"""The parts of a network as TFLite files of their own, with random weights: to be timed."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from mobilenets_jax.export import converter, lowering
from mobilenets_jax.export.untrained import random_variables
from mobilenets_jax.models.blocks import BLOCKS
from mobilenets_jax.models.layers import ConvNorm, LayerSettings
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.ops import ACTIVATIONS, global_average_pool, max_pool

_AT_A_TIME = 50  # files, whose weights then stand in memory as text


class Stem(nn.Module):
    """The layers before the first block.

    Attributes:
        spec: of the network.
        settings: of its layers.
    """

    spec: NetworkSpec
    settings: LayerSettings

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> tuple[jax.Array, dict]:
        """From images to the input of the first block, as all parts with a second value that is not looked at."""
        stem, settings = self.spec.stem, self.settings
        shape = {'kernel_size': stem.kernel_size, 'stride': stem.stride}
        x = ConvNorm(stem.channels, stem.activation, settings, **shape, name='stem')(inputs, train=train)
        return (max_pool(x, 3, stride=2, padding=settings.pads(3)) if self.spec.stem_pool else x), {}


class Tail(nn.Module):
    """The layers behind the last block.

    Attributes:
        spec: of the network.
        settings: of its layers.
        num_classes: width of the logits.
    """

    spec: NetworkSpec
    settings: LayerSettings
    num_classes: int = 1000

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> tuple[jax.Array, dict]:
        """From the output of the last block to logits."""
        spec, x = self.spec, inputs
        if spec.head_conv is not None:
            head = ConvNorm(spec.head_conv.channels, spec.head_conv.activation, self.settings, name='head_conv')
            x = head(x, train=train)
        x = global_average_pool(x)
        if spec.pre_logits is not None:
            x = ACTIVATIONS[spec.head_activation](self.settings.dense(spec.pre_logits, name='pre_logits')(x))
        return self.settings.dense(self.num_classes, use_bias=spec.classifier_bias, name='logits')(x), {}


def block(spec: NetworkSpec, settings: LayerSettings) -> nn.Module:
    """The block of a network's only row."""
    (row,) = spec.blocks
    return BLOCKS[row.kind](row, settings, row.stride, 1)


def part_files(parts: Sequence[tuple[nn.Module, int, int]]) -> list[bytes]:
    """TFLite files of modules; each with the height and width of its input in pixels, and its channels.

    Raises:
        RunError: the converter fails.
        UserError: it is not installed.
    """
    files = []
    for first in range(0, len(parts), _AT_A_TIME):
        programs = []
        for module, size, channels in parts[first : first + _AT_A_TIME]:
            variables = random_variables(module, size, channels=channels)
            programs.append(lowering.stablehlo(module, variables, (size, size), channels))
        files += converter.all_to_tflite(programs, lowering.INPUT, lowering.OUTPUT)
    return files
