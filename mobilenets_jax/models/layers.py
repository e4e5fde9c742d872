"""The layers that every network of the family is built from: convolution, normalisation, activation.

`LayerSettings` holds what is the same throughout a network (dtype, padding, batch-norm constants) and is handed down
to every module, so that no block repeats it. All images are NHWC; all kernels are HWIO.

Paper: batch normalisation 1502.03167; hard-swish 1905.02244 section 5.2.
Differs: running variances are the biased batch variances (Flax), where TensorFlow's own and PyTorch's keep
    n/(n-1) times that; it matters only for very small per-device batches.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mobilenets_jax.ops import batch_norm, conv, dense_product, normalize

Array = jax.Array

Initializer = Callable[..., Array]


class KernelInitializers(NamedTuple):
    """How one implementation initialises its three kinds of kernels."""

    conv: Initializer
    depthwise: Initializer
    dense: Initializer


def _inverse_fan_in(key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> Array:
    """A normal whose deviation is 1 / (input channels of the kernel), as in megvii's ShuffleNets."""
    return jax.random.normal(key, shape, dtype) / shape[-2]


_truncated = nn.initializers.truncated_normal(0.09)
_glorot = nn.initializers.glorot_uniform()
_he_fan_out = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
_torch = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
_small_normal = nn.initializers.normal(0.01)

INITIALIZERS = {
    'slim': KernelInitializers(_truncated, _truncated, _truncated),  # `training_scope`
    'torchvision': KernelInitializers(_he_fan_out, _he_fan_out, _small_normal),  # its mobilenets' __init__
    'keras': KernelInitializers(_glorot, _glorot, _glorot),  # the layers' defaults
    # Fan-out of one channel's own kernel, which is a depthwise kernel's fan-in here: tpu's MnasNet and timm.
    'fan_out': KernelInitializers(
        _he_fan_out,
        nn.initializers.variance_scaling(2.0, 'fan_in', 'normal'),
        nn.initializers.variance_scaling(1 / 3, 'fan_out', 'uniform'),
    ),
    # Slim's default, and what deeplab sets of its separable convolutions and of the logits.
    'deeplab': KernelInitializers(_glorot, *map(nn.initializers.truncated_normal, (0.33, 0.01))),
    'torch': KernelInitializers(_torch, _torch, _torch),  # the layers' defaults
    'megvii': KernelInitializers(_inverse_fan_in, _inverse_fan_in, _small_normal),
    # TensorFlow's object detection, of all but the V3 configs' predictors; those, and all of torchvision's SSDLite; the
    # classes of MobileNeXt's detector.
    'object_detection': KernelInitializers(*[nn.initializers.truncated_normal(0.03)] * 3),
    'ssdlite': KernelInitializers(*[nn.initializers.normal(0.03)] * 3),
    'small_normal': KernelInitializers(*[_small_normal] * 3),
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
        drop_path_rate: see `models.create_model`; of one block see `network.Backbone`.
    """

    dtype: jax.typing.DTypeLike = jnp.float32
    padding: str = 'same'
    bn_momentum: float = 0.997
    bn_epsilon: float = 1e-3
    bn_axis_name: str | None = None
    initializer: str = 'slim'
    drop_path_rate: float = 0.0

    @property
    def param_dtype(self) -> jnp.dtype:
        """float64 for float64 networks, float32 for all others."""
        return jnp.promote_types(self.dtype, jnp.float32)

    @property
    def initializers(self) -> KernelInitializers:
        """Those of the implementation named by `initializer`."""
        return INITIALIZERS[self.initializer]

    def pads(self, kernel_size: int, dilation: int = 1) -> str | tuple[tuple[int, int], tuple[int, int]]:
        """The padding of a convolution or pooling, in the form that `lax` takes."""
        if self.padding == 'same':
            return 'SAME'
        side = dilation * (kernel_size - 1) // 2
        return ((side, side), (side, side))

    def dense(
        self, features: int, *, name: str, use_bias: bool = True, bias_init: Initializer = nn.initializers.zeros
    ) -> nn.Dense:
        """A dense layer."""
        return nn.Dense(
            features,
            use_bias=use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=self.initializers.dense,
            bias_init=bias_init,
            dot_general=dense_product,
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
        settings, channels = self.settings, inputs.shape[-1]
        shape = (self.kernel_size, self.kernel_size, 1 if self.depthwise else channels, self.features)
        initializer = settings.initializers.depthwise if self.depthwise else settings.initializers.conv
        kernel = self.param('kernel', initializer, shape, settings.param_dtype)
        return conv(
            inputs.astype(settings.dtype),
            kernel.astype(settings.dtype),
            stride=self.stride,
            dilation=self.dilation,
            padding=settings.pads(self.kernel_size, self.dilation),
            groups=channels if self.depthwise else 1,
        )


class BatchNorm(nn.Module):
    """Batch normalisation over N, H, W, and the activation after it.

    Attributes:
        activation: a key of `ops.ACTIVATIONS`.
        settings: shared by the network.
    """

    activation: str
    settings: LayerSettings

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        """Maps [N, H, W, C] to the same; when `train`, by the batch's statistics, and the running ones are updated."""
        settings, inputs = self.settings, inputs.astype(self.settings.dtype)
        shape = (inputs.shape[-1:], settings.param_dtype)
        scale = self.param('scale', nn.initializers.ones, *shape)
        bias = self.param('bias', nn.initializers.zeros, *shape)
        mean = self.variable('batch_stats', 'mean', jnp.zeros, *shape)
        var = self.variable('batch_stats', 'var', jnp.ones, *shape)
        options: dict[str, Any] = {'epsilon': settings.bn_epsilon, 'activation': self.activation}
        if not train:
            return normalize(inputs, scale, bias, mean.value, var.value, **options)
        axis_name = None if self.is_initializing() else settings.bn_axis_name
        outputs, batch_mean, batch_var = batch_norm(inputs, scale, bias, axis_name=axis_name, **options)
        if not self.is_initializing():
            momentum = settings.bn_momentum
            mean.value = momentum * mean.value + (1 - momentum) * batch_mean
            var.value = momentum * var.value + (1 - momentum) * batch_var
        return outputs


class ConvNorm(nn.Module):
    """Convolution, batch normalisation, activation: what all blocks are made of.

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
        x = Conv(
            self.features, self.kernel_size, self.stride, self.dilation, self.depthwise, self.settings, name='conv'
        )(inputs)
        return BatchNorm(self.activation, self.settings, name='bn')(x, train=train)
