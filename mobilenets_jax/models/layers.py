"""The layers that every network of the family is built from: convolution, normalisation, activation, squeeze-excite.

`LayerSettings` holds what is the same throughout a network (dtype, padding, batch-norm constants) and is handed down
to every module, so that no block repeats it. All images are NHWC; all kernels are HWIO.

Paper: batch normalisation 1502.03167; hard-swish 1905.02244 section 5.2; squeeze-and-excitation 1709.01507.
Differs: running variances are the biased batch variances (Flax), where TensorFlow's fused kernel and PyTorch keep
    n/(n-1) times that; it matters only for very small per-device batches.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from mobilenets_jax.models.specs import SqueezeExciteSpec
from mobilenets_jax.ops import depthwise_conv, pointwise_conv

Array = jax.Array

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    'linear': lambda x: x,
    'relu': nn.relu,
    'relu6': nn.relu6,
    'swish': nn.swish,
    'hard_swish': nn.hard_swish,
    'sigmoid': nn.sigmoid,
    'hard_sigmoid': nn.hard_sigmoid,
}

_he_fan_out = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')

# (convolution kernels, dense kernels), as the code named by the key initialises them: facts of `training_scope` in
# slim, of `_initialize_weights` in torchvision, and Keras's layer defaults.
INITIALIZERS = {
    'slim': (nn.initializers.truncated_normal(0.09), nn.initializers.truncated_normal(0.09)),
    'torchvision': (_he_fan_out, nn.initializers.normal(0.01)),
    'keras': (nn.initializers.glorot_uniform(), nn.initializers.glorot_uniform()),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerSettings:
    """What every layer of one network shares.

    Attributes:
        dtype: of activations and convolutions; parameters and statistics stay float32 (float64 with float64).
        padding: 'same' or 'symmetric', see `specs.Convention`.
        bn_momentum: decay of the running statistics.
        bn_epsilon: added to the variance.
        bn_axis_name: the mapped axis over which batch statistics are averaged in training, or None.
        initializer: a key of `INITIALIZERS`.
        depthwise_implementation: see `mobilenets_jax.ops.depthwise_conv`.
    """

    dtype: jnp.dtype = jnp.float32
    padding: str = 'same'
    bn_momentum: float = 0.997
    bn_epsilon: float = 1e-3
    bn_axis_name: str | None = None
    initializer: str = 'slim'
    depthwise_implementation: str = 'auto'

    @property
    def param_dtype(self) -> jnp.dtype:
        """float64 for float64 networks, float32 for all others."""
        return jnp.promote_types(self.dtype, jnp.float32)

    def batch_norm(self, *, train: bool, name: str) -> nn.BatchNorm:
        """A batch norm over N, H, W that updates its running statistics when `train`."""
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=self.bn_momentum,
            epsilon=self.bn_epsilon,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            axis_name=self.bn_axis_name,
            name=name,
        )

    def dense(self, features: int, *, name: str, use_bias: bool = True) -> nn.Dense:
        """A biased dense layer."""
        return nn.Dense(
            features,
            use_bias=use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=INITIALIZERS[self.initializer][1],
            name=name,
        )


class Conv(nn.Module):
    """A convolution without bias, dense or depthwise, padded by the network's convention.

    Attributes:
        features: output channels; of a depthwise convolution those of the input.
        kernel_size: odd, in pixels.
        stride: in pixels.
        dilation: spacing of the kernel's taps, in pixels.
        depthwise: whether every channel is convolved by itself.
        settings: shared by the network.
    """

    features: int
    kernel_size: int
    stride: int
    dilation: int
    depthwise: bool
    settings: LayerSettings

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Convolves `inputs` [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), features]."""
        settings = self.settings
        in_channels = 1 if self.depthwise else inputs.shape[-1]
        shape = (self.kernel_size, self.kernel_size, in_channels, self.features)
        kernel = self.param('kernel', INITIALIZERS[settings.initializer][0], shape, settings.param_dtype)
        inputs, kernel = inputs.astype(settings.dtype), kernel.astype(settings.dtype)
        padding = self._padding()
        if self.depthwise:
            return depthwise_conv(
                inputs,
                kernel,
                stride=self.stride,
                dilation=self.dilation,
                padding=padding,
                implementation=settings.depthwise_implementation,
            )
        if self.kernel_size == 1 and self.stride == 1:
            return pointwise_conv(inputs, kernel)
        return lax.conv_general_dilated(
            inputs,
            kernel,
            window_strides=(self.stride, self.stride),
            padding=padding,
            rhs_dilation=(self.dilation, self.dilation),
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        )

    def _padding(self) -> str | tuple[tuple[int, int], tuple[int, int]]:
        if self.settings.padding == 'same':
            return 'SAME'
        side = self.dilation * (self.kernel_size - 1) // 2
        return ((side, side), (side, side))


class ConvNorm(nn.Module):
    """Convolution, batch normalisation, activation: the unit that all blocks are made of.

    Attributes:
        features: output channels.
        activation: a key of `ACTIVATIONS`.
        settings: shared by the network.
        kernel_size: odd, in pixels.
        stride: in pixels.
        dilation: spacing of the kernel's taps, in pixels.
        depthwise: whether every channel is convolved by itself.
    """

    features: int
    activation: str
    settings: LayerSettings
    kernel_size: int = 1
    stride: int = 1
    dilation: int = 1
    depthwise: bool = False

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        """Maps `inputs` [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), features]."""
        conv = Conv(
            self.features,
            self.kernel_size,
            self.stride,
            self.dilation,
            self.depthwise,
            self.settings,
            name='conv',
        )
        outputs = self.settings.batch_norm(train=train, name='bn')(conv(inputs))
        return ACTIVATIONS[self.activation](outputs)


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from all channels' means.

    Paper: 1709.01507 section 3; MobileNetV3 (1905.02244 section 5.3) measures the squeeze by the expanded width.

    Attributes:
        squeezed: channels between the two dense layers.
        spec: gate and rounding; only the gate is read here.
        settings: shared by the network.
    """

    squeezed: int
    spec: SqueezeExciteSpec
    settings: LayerSettings

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Maps `inputs` [N, H, W, C] to the same shape."""
        gate = global_average_pool(inputs)  # (N, C)
        gate = nn.relu(self.settings.dense(self.squeezed, name='reduce')(gate))
        gate = self.settings.dense(inputs.shape[-1], name='expand')(gate)
        gate = ACTIVATIONS[self.spec.gate](gate)
        return inputs * gate[:, None, None, :]  # (N, C) -> (N, 1, 1, C)


def global_average_pool(inputs: Array) -> Array:
    """Averages `inputs` [N, H, W, C] over H and W in at least float32, to [N, C] of the input's dtype."""
    accumulator = jnp.promote_types(inputs.dtype, jnp.float32)
    return jnp.mean(inputs, axis=(1, 2), dtype=accumulator).astype(inputs.dtype)
