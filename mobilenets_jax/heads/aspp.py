"""The segmentation heads of the family: DeepLabv3's ASPP, its reduced form R-ASPP, and LR-ASPP.

Paper: Chen et al., 1706.05587 (ASPP with image pooling); 1801.04381 section 6.3 (for MobileNetV2: image pooling and a
    1x1 convolution alone); 1905.02244 section 6.4, Figure 10, Tables 7 and 8 (R-ASPP, LR-ASPP).
Reference: tensorflow/models research/deeplab/model.py and g3doc/model_zoo.md; torchvision 0.28
    models/segmentation/{deeplabv3,lraspp}.py.
Differs: a pooling window that is larger than the map is clipped to it. The kernel of the gate begins as that of the
    logits does in deeplab; there it is Glorot's.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.models.layers import ConvNorm, LayerSettings
from mobilenets_jax.models.network import Endpoints
from mobilenets_jax.models.specs import INITIALIZERS
from mobilenets_jax.ops import ACTIVATIONS, global_average_pool, resize_bilinear

LOW = 'C3/depthwise'
GATES = ('sigmoid', 'hard_sigmoid')


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """What all segmentation heads have.

    Attributes:
        filters: channels of each branch (the V3 paper's F).
        features: the endpoint that is the head's input: 'C5', or 'last_block', the input of the last convolution.
        align_corners: see `ops.resize_bilinear`; of all resizes of the network.
        dropout_rate: fraction dropped before the logits, in training.
        bn_momentum: decay of the running statistics of the head's own batch norms.
        bn_epsilon: added to their variances.
        initializer: a key of `models.layers.INITIALIZERS`.
    """

    filters: int
    features: str = 'C5'
    align_corners: bool = True
    dropout_rate: float = 0.0
    bn_momentum: float = 0.9997
    bn_epsilon: float = 1e-5
    initializer: str = 'deeplab'

    def __post_init__(self):
        check(self.filters > 0, 'filters', self.filters, 'must be positive')
        check_choice('features', self.features, ('C5', 'last_block'))
        check(0.0 <= self.dropout_rate < 1.0, 'dropout_rate', self.dropout_rate, 'must be in [0, 1)')
        check_choice('initializer', self.initializer, INITIALIZERS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AsppSpec(HeadSpec):
    """How an ASPP is built; without atrous rates it is R-ASPP.

    Attributes:
        atrous_rates: of one 3x3 branch each, in pixels of the features; in the paper (6, 12, 18) at output stride 16,
            (12, 24, 36) at 8.
        separable: whether these are a depthwise and a 1x1 convolution, or one dense convolution.
        pooled_first: whether the pooled branch is the first of the concatenated branches, or the last.
        refined: whether one more 3x3 convolution follows the projection.
    """

    filters: int = 256
    atrous_rates: tuple[int, ...] = ()
    separable: bool = True
    pooled_first: bool = True
    refined: bool = False
    dropout_rate: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, 'atrous_rates', tuple(self.atrous_rates))
        positive = all(isinstance(rate, int) and rate > 0 for rate in self.atrous_rates)
        check(positive, 'atrous_rates', self.atrous_rates, 'must be positive integers')


@dataclasses.dataclass(frozen=True, kw_only=True)
class LrAsppSpec(HeadSpec):
    """How an LR-ASPP is built.

    Attributes:
        low: the endpoint of the second logits, at stride 8; a network without 'C3/depthwise' has 'C3' there.
        pool_size: height and width of the pooling windows of the gate, in pixels of the features; None: all of them.
        pool_strides: steps between the windows, down and across.
        gate: 'sigmoid' or 'hard_sigmoid'.
        gate_bias: whether the gate's convolution has a bias.
    """

    filters: int = 128
    low: str = LOW
    pool_size: int | None = None
    pool_strides: tuple[int, int] = (1, 1)
    gate: str = 'sigmoid'
    gate_bias: bool = True

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, 'pool_strides', tuple(self.pool_strides))
        check(self.pool_size is None or self.pool_size > 0, 'pool_size', self.pool_size, 'must be positive')
        two = len(self.pool_strides) == 2 and min(self.pool_strides) > 0
        check(two, 'pool_strides', self.pool_strides, 'must be two positive numbers')
        check_choice('gate', self.gate, GATES)


class Aspp(nn.Module):
    """Branches of the same features, pooled and at several rates, joined and projected; then the logits.

    Attributes:
        spec: the branches.
        settings: of the head's layers.
        num_classes: channels of the logits.
    """

    spec: AsppSpec
    settings: LayerSettings
    num_classes: int

    @nn.compact
    def __call__(self, endpoints: Endpoints, *, train: bool) -> jax.Array:
        """Logits [N, H, W, num_classes] at the size of the features."""
        spec, features = self.spec, endpoints[self.spec.features]
        pooled = global_average_pool(features)[:, None, None]  # (N, 1, 1, C)
        if spec.pooled_first:
            branches = [self._pooled(pooled, features, train), *self._branches(features, train)]
        else:
            branches = [*self._branches(features, train), self._pooled(pooled, features, train)]
        x = self._conv('projection')(jnp.concatenate(branches, axis=-1), train=train)
        x = nn.Dropout(spec.dropout_rate, deterministic=not train)(x)
        if spec.refined:
            x = self._conv('refine', kernel_size=3)(x, train=train)
        return self.settings.dense(self.num_classes, name='logits')(x)

    def _conv(self, name: str, **fields) -> ConvNorm:
        return self._layer(self.spec.filters, name, **fields)

    def _layer(self, features: int, name: str, **fields) -> ConvNorm:
        return ConvNorm(features, 'relu', self.settings, name=name, **fields)

    def _pooled(self, pooled: jax.Array, features: jax.Array, train: bool) -> jax.Array:
        x = self._conv('image_pool')(pooled, train=train)
        return resize_bilinear(x, features.shape[1:3], align_corners=self.spec.align_corners)

    def _branches(self, features: jax.Array, train: bool) -> list[jax.Array]:
        """The 1x1 convolution, and one 3x3 for each rate."""
        branches = [self._conv('aspp0')(features, train=train)]
        for number, rate in enumerate(self.spec.atrous_rates, start=1):
            x = features
            if self.spec.separable:
                name = f'aspp{number}_depthwise'
                depthwise = self._layer(features.shape[-1], name, kernel_size=3, dilation=rate, depthwise=True)
                x = depthwise(x, train=train)
                branches.append(self._conv(f'aspp{number}_pointwise')(x, train=train))
            else:
                branches.append(self._conv(f'aspp{number}', kernel_size=3, dilation=rate)(x, train=train))
        return branches


class LrAspp(nn.Module):
    """Features scaled by a gate of their pooled values; logits of them and of a map at stride 8, added.

    Attributes:
        spec: the gate, and which map.
        settings: of the head's layers.
        num_classes: channels of the logits.
    """

    spec: LrAsppSpec
    settings: LayerSettings
    num_classes: int

    @nn.compact
    def __call__(self, endpoints: Endpoints, *, train: bool) -> jax.Array:
        """Logits [N, H, W, num_classes] at stride 8."""
        spec, features = self.spec, endpoints[self.spec.features]
        tap = 'C3' if spec.low == LOW and LOW not in endpoints else spec.low
        check_choice('low', tap, endpoints)
        low = endpoints[tap]
        x = ConvNorm(spec.filters, 'relu', self.settings, name='project')(features, train=train)
        gate = pool_windows(features, spec.pool_size, spec.pool_strides)
        gate = self.settings.dense(spec.filters, use_bias=spec.gate_bias, name='gate')(gate)
        gate = ACTIVATIONS[spec.gate](gate)
        x = x * resize_bilinear(gate, x.shape[1:3], align_corners=spec.align_corners)
        x = resize_bilinear(x, low.shape[1:3], align_corners=spec.align_corners)
        x = nn.Dropout(spec.dropout_rate, deterministic=not train)(x)
        low_logits = self.settings.dense(self.num_classes, name='low_logits')(low)
        return low_logits + self.settings.dense(self.num_classes, name='high_logits')(x)


def pool_windows(inputs: jax.Array, size: int | None, strides: tuple[int, int]) -> jax.Array:
    """The means of windows of `inputs` [N, H, W, C] that lie inside of the map.

    Args:
        inputs: floating point.
        size: height and width of a window, each clipped to the map's; None: the whole map.
        strides: steps between the windows, down and across.

    Returns:
        [N, (H - size) // stride + 1, (W - size) // stride + 1, C] of the dtype of `inputs`.
    """
    height, width = (side if size is None else min(size, side) for side in inputs.shape[1:3])
    if (height, width) == inputs.shape[1:3]:
        return global_average_pool(inputs)[:, None, None]
    # First down, then across: the sums are few, and so are the gradient's.
    x = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))
    x = nn.avg_pool(x, (height, 1), (strides[0], 1), 'VALID')
    return nn.avg_pool(x, (1, width), (1, strides[1]), 'VALID').astype(inputs.dtype)
