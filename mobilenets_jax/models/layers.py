"""The layers that every network of the family is built from: convolution, normalisation, activation.

`LayerSettings` holds what is the same throughout a network (dtype, padding, batch-norm constants) and is handed down
to every module, so that no block repeats it. All images are NHWC; all kernels are HWIO.

Paper: batch normalisation 1502.03167; hard-swish 1905.02244 section 5.2.
Differs: running variances are the biased batch variances (Flax), where TensorFlow's fused kernel and PyTorch keep
    n/(n-1) times that; it matters only for very small per-device batches.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from mobilenets_jax.ops import Convolution, Normalization, Step, Unit, batch_norm, conv_norms, dense_product

Array = jax.Array

Initializer = Callable[..., Array]


class KernelInitializers(NamedTuple):
    """How one implementation initialises its three kinds of kernels."""

    conv: Initializer
    depthwise: Initializer
    dense: Initializer


def _inverse_fan_in(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
    """A normal whose deviation is 1 / (input channels of the kernel), as in megvii's ShuffleNets."""
    return jax.random.normal(key, shape, dtype) / shape[-2]


_truncated = nn.initializers.truncated_normal(0.09)
_glorot = nn.initializers.glorot_uniform()
_he_fan_out = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
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
    'megvii': KernelInitializers(_inverse_fan_in, _inverse_fan_in, _small_normal),
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
        depthwise_implementation: of convolutions that do not mix all channels, see `mobilenets_jax.ops.Convolution`.
        fuse: whether convolution and batch norm are one operation; not for those who want to see the outputs of both.
    """

    dtype: jnp.dtype = jnp.float32
    padding: str = 'same'
    bn_momentum: float = 0.997
    bn_epsilon: float = 1e-3
    bn_axis_name: str | None = None
    initializer: str = 'slim'
    depthwise_implementation: str = 'auto'
    fuse: bool = True

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

    def dense(self, features: int, *, name: str, use_bias: bool = True) -> nn.Dense:
        """A dense layer."""
        return nn.Dense(
            features,
            use_bias=use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=self.initializers.dense,
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

    def __call__(self, inputs: Array) -> Array:
        """Convolves `inputs` [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), features]."""
        convolution, kernel = self.parts(inputs.shape[-1])
        return convolution(inputs.astype(kernel.dtype), kernel)

    @nn.compact
    def parts(self, in_channels: int) -> tuple[Convolution, Array]:
        """The convolution of so many channels without its kernel, and the kernel in the network's dtype."""
        settings = self.settings
        in_channels = 1 if self.depthwise else in_channels
        shape = (self.kernel_size, self.kernel_size, in_channels, self.features)
        initializer = settings.initializers.depthwise if self.depthwise else settings.initializers.conv
        kernel = self.param('kernel', initializer, shape, settings.param_dtype)
        convolution = Convolution(
            depthwise=self.depthwise,
            stride=self.stride,
            dilation=self.dilation,
            padding=settings.pads(self.kernel_size, self.dilation),
            implementation=settings.depthwise_implementation,
        )
        return convolution, kernel.astype(settings.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation over N, H, W, and the activation behind it.

    Attributes:
        features: channels.
        activation: a key of `ops.ACTIVATIONS`.
        settings: shared by the network.
    """

    features: int
    activation: str
    settings: LayerSettings

    def setup(self):
        """Makes the parameters and the running statistics."""
        shape = ((self.features,), self.settings.param_dtype)
        self.scale = self.param('scale', nn.initializers.ones, *shape)
        self.bias = self.param('bias', nn.initializers.zeros, *shape)
        self.mean = self.variable('batch_stats', 'mean', jnp.zeros, *shape)
        self.var = self.variable('batch_stats', 'var', jnp.ones, *shape)

    def __call__(self, inputs: Array, *, train: bool) -> Array:
        """Maps [N, H, W, C] to the same; when `train`, by the batch's statistics, and the running ones are updated."""
        inputs = inputs.astype(self.settings.dtype)
        if not train:
            return self.by_running_statistics()(inputs)
        options = {'epsilon': self.settings.bn_epsilon, 'axis_name': self.axis_name}
        return self.keep(batch_norm(inputs, self.scale, self.bias, activation=self.activation, **options))

    def after(
        self, convolution: Convolution, inputs: Array, kernel: Array, *, train: bool, residual: Array | None = None
    ) -> Array:
        """Convolves, does what a call does, and adds the residual, in one operation, which is faster on CPUs."""
        if not train:
            return convolution(inputs, kernel, self.by_running_statistics(residual))
        return train_in_turn([self], [self.unit(convolution, kernel)], inputs, residual)[0]

    def unit(self, convolution: Convolution, kernel: Array) -> Unit:
        """Together with the convolution before it, as training takes it."""
        return Unit(convolution, kernel, self.scale, self.bias, self.activation)

    @property
    def axis_name(self) -> str | None:
        """The mapped axis over which the statistics are averaged now."""
        return None if self.is_initializing() else self.settings.bn_axis_name

    def keep(self, results: tuple[Array, Array, Array]) -> Array:
        """Updates the running statistics by those of a batch, and returns its outputs."""
        outputs, *statistics = results
        if not self.is_initializing():
            momentum = self.settings.bn_momentum
            for running, statistic in zip((self.mean, self.var), statistics, strict=True):
                running.value = momentum * running.value + (1 - momentum) * lax.stop_gradient(statistic)
        return outputs

    def by_running_statistics(self, residual: Array | None = None) -> Normalization:
        """What an evaluation does with the inputs."""
        arrays = (self.scale, self.bias, self.mean.value, self.var.value)
        return Normalization(*arrays, self.settings.bn_epsilon, self.activation, residual)


def train_in_turn(
    norms: Sequence[BatchNorm], units: Sequence[Unit], inputs: Array, residual: Array | None
) -> list[Array]:
    """The outputs of units one after the other by the statistics of the batch, which their norms keep.

    The residual is added to those of the last.
    """
    results = conv_norms(inputs, units, epsilon=norms[0].settings.bn_epsilon, axis_name=norms[0].axis_name)
    *between, last = [norm.keep(result) for norm, result in zip(norms, results, strict=True)]
    return [*between, last if residual is None else last + residual]


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

    def setup(self):
        """Names the two parts."""
        self.conv = Conv(self.features, self.kernel_size, self.stride, self.dilation, self.depthwise, self.settings)
        self.bn = BatchNorm(self.features, self.activation, self.settings)

    def __call__(self, inputs: Array, *, train: bool, residual: Array | None = None) -> Array:
        """Maps `inputs` [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), features], plus the residual."""
        if self.settings.fuse and not self.is_initializing():
            convolution, kernel = self.conv.parts(inputs.shape[-1])
            return self.bn.after(convolution, inputs.astype(kernel.dtype), kernel, train=train, residual=residual)
        outputs = self.bn(self.conv(inputs), train=train)
        return outputs if residual is None else outputs + residual

    def training_unit(self, in_channels: int) -> Unit:
        """What training does with inputs of so many channels."""
        return self.bn.unit(*self.conv.parts(in_channels))

    def evaluation_step(self, inputs: Array, residual: Array | None) -> Step:
        """What an evaluation does with `inputs`."""
        convolution, kernel = self.conv.parts(inputs.shape[-1])
        return Step(convolution, kernel, self.bn.by_running_statistics(residual))
