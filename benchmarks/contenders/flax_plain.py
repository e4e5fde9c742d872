"""MobileNetV2 and V3 as one writes them in Flax: `nn.Conv` with groups, `nn.BatchNorm`, one jitted step."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from benchmarks.contenders import CLASSES, examples
from mobilenets_jax.errors import check
from mobilenets_jax.models import get_spec
from mobilenets_jax.ops import ACTIVATIONS

BLOCKS = ('inverted_residual', 'depthwise_separable')


class PlainNetwork(nn.Module):
    """A network of inverted residuals or depthwise separable convolutions from its table.

    Attributes:
        network: its name.
        dtype: of activations; parameters are float32.
    """

    network: str
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images [N, H, W, 3] to logits, float32."""
        dense = functools.partial(nn.Dense, dtype=self.dtype)

        def unit(x, features, kernel, stride, activation, groups=1):
            x = nn.Conv(
                features, (kernel, kernel), stride, feature_group_count=groups, use_bias=False, dtype=self.dtype
            )(x)
            x = nn.BatchNorm(use_running_average=not train, momentum=0.99, epsilon=1e-3, dtype=self.dtype)(x)
            return ACTIVATIONS[activation](x)

        spec = get_spec(self.network)
        x = unit(x.astype(self.dtype), spec.stem.channels, 3, 2, spec.stem.activation)
        for row in spec.blocks:
            check(row.kind in BLOCKS, 'network', self.network, 'has other blocks than inverted residuals')
            shortcut = x
            if row.expanded != x.shape[-1]:
                x = unit(x, row.expanded, 1, 1, row.activation)
            x = unit(x, x.shape[-1], row.kernel_size, row.stride, row.activation, groups=x.shape[-1])
            if row.squeeze_excite:
                squeezed = row.squeeze_excite.squeezed(in_channels=shortcut.shape[-1], gated_channels=x.shape[-1])
                gate = nn.relu(dense(squeezed)(x.mean((1, 2))))
                x = x * nn.hard_sigmoid(dense(x.shape[-1])(gate))[:, None, None]
            separable = row.kind == 'depthwise_separable'
            x = unit(x, row.out_channels, 1, 1, row.activation if separable else 'linear')
            x = x + shortcut if x.shape == shortcut.shape and not separable else x
        if spec.head_conv:
            x = unit(x, spec.head_conv.channels, 1, 1, spec.head_conv.activation)
        x = x.mean((1, 2))
        if spec.pre_logits:
            x = ACTIVATIONS[spec.head_activation](dense(spec.pre_logits)(x))
        return dense(CLASSES)(x).astype(jnp.float32)


wait = jax.block_until_ready


def _prepare(network: str, batch: int, size: int, dtype: str):
    model = PlainNetwork(network, dtype=jnp.dtype(dtype))
    images, labels = (jax.device_put(array) for array in examples(batch, size))
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images[:1])
    return model, variables, images, labels


def train(network: str, batch: int, size: int, dtype: str = 'float32') -> Callable:
    """A step of SGD with momentum."""
    model, variables, images, labels = _prepare(network, batch, size, dtype)
    optimizer = optax.sgd(0.01, momentum=0.9)
    state = (variables, optimizer.init(variables['params']))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, images, labels):
        variables, opt_state = state

        def loss(params):
            logits, updated = model.apply({**variables, 'params': params}, images, train=True, mutable=['batch_stats'])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updated

        (value, updated), gradients = jax.value_and_grad(loss, has_aux=True)(variables['params'])
        updates, opt_state = optimizer.update(gradients, opt_state)
        return ({'params': optax.apply_updates(variables['params'], updates), **updated}, opt_state), value

    def run() -> jax.Array:
        nonlocal state
        state, value = step(state, images, labels)
        return value

    run.lower = lambda: step.lower(state, images, labels)
    return run


def inference(network: str, batch: int, size: int, dtype: str = 'float32') -> Callable:
    """The logits of one batch."""
    model, variables, images, _ = _prepare(network, batch, size, dtype)
    apply = jax.jit(functools.partial(model.apply, train=False))

    def run() -> jax.Array:
        return apply(variables, images)

    run.lower = lambda: apply.lower(variables, images)
    return run
