"""Squeeze-and-excitation: channels scaled by a function of the means over the whole image.

Paper: Hu et al., Squeeze-and-Excitation Networks, 1709.01507, section 3; MnasNet (1807.11626) measures the squeeze by
    the block's input, MobileNetV3 (1905.02244 section 5.3) by the expanded width, with a hard sigmoid.
"""

import flax.linen as nn
import jax

from mobilenets_jax.models.layers import LayerSettings
from mobilenets_jax.models.specs import SqueezeExciteSpec
from mobilenets_jax.ops import ACTIVATIONS, global_average_pool, scale_channels


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from all channels' means.

    Attributes:
        spec: width of the squeeze and the gate.
        block_channels: channels of the block's input, which the squeeze may be measured by.
        settings: shared by the network.
    """

    spec: SqueezeExciteSpec
    block_channels: int
    settings: LayerSettings

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps `inputs` [N, H, W, C] to the same shape."""
        channels = inputs.shape[-1]
        gate = global_average_pool(inputs)  # (N, C)
        gate = nn.relu(self.settings.dense(self.spec.squeezed(self.block_channels, channels), name='reduce')(gate))
        gate = self.settings.dense(channels, name='expand')(gate)
        gate = ACTIVATIONS[self.spec.gate](gate)
        return scale_channels(inputs, gate)
