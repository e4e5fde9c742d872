"""A trained network as a program of one image, in the forms that converters know."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mobilenets_jax.models.shufflenet_v1 import GroupedPointwise
from mobilenets_jax.ops import alternating_channels, conv, normalize
from mobilenets_jax.ops.backend import EXPORT, compiling_for

INPUT, OUTPUT = 'images', 'logits'

Outputs = jax.Array | Mapping[str, jax.Array]


def in_float32(model: nn.Module) -> nn.Module:
    """The same network with activations in float32, which is what converters take."""
    return model.clone(settings=dataclasses.replace(model.settings, dtype=jnp.dtype(jnp.float32)))


def named(outputs: Outputs) -> dict[str, jax.Array]:
    """What a network returns, by name: one that has a single output returns its logits."""
    return dict(outputs) if isinstance(outputs, Mapping) else {OUTPUT: outputs}


def forward(model: nn.Module, variables: Mapping[str, Any]) -> Callable[[jax.Array], Outputs]:
    """From images, float32 [N, H, W, 3], to outputs, with the variables as constants."""
    kept = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), variables)
    return lambda images: model.apply(kept, images, train=False)[0]


def output_names(model: nn.Module, variables: Mapping[str, Any], image_size: tuple[int, int]) -> list[str]:
    """The names of what the program of `stablehlo` returns, in the order in which it does; arguments as there."""
    return sorted(named(jax.eval_shape(forward(in_float32(model), variables), _image(image_size))))


def stablehlo(model: nn.Module, variables: Mapping[str, Any], image_size: tuple[int, int], channels: int = 3) -> str:
    """The network's program of one image as StableHLO text.

    Args:
        model: with the call contract of `mobilenets_jax.models`; its activations are computed in float32.
        variables: its parameters and statistics.
        image_size: height and width of the image, in pixels.
        channels: of the image; those of its input where the model is a part of a network.
    """
    with compiling_for(EXPORT), nn.intercept_methods(_convolve_in_groups):
        return jax.jit(forward(in_float32(model), variables)).lower(_image(image_size, channels)).as_text()


def _image(image_size: tuple[int, int], channels: int = 3) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *image_size, channels), jnp.float32)


def _convolve_in_groups(call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
    """Runs the groups of a `GroupedPointwise` as one convolution, into which its batch norm can be folded.

    There would be a concatenation of the groups' outputs between them. Groups of unequal widths, which some narrow
    ShuffleNets have, are left as they are.
    """
    module = context.module
    if not isinstance(module, GroupedPointwise) or context.method_name != '__call__':
        return call(*args, **kwargs)
    (inputs,), params, stats = args, module.variables['params'], module.variables['batch_stats']['bn']
    kernels = [params[f'group{group + 1}']['kernel'] for group in range(module.groups)]
    if len({kernel.shape for kernel in kernels}) > 1:
        return call(*args, **kwargs)
    if module.shuffled and module.groups > 1:
        inputs = jnp.concatenate(alternating_channels(inputs, module.groups), axis=-1)
    outputs = conv(inputs, jnp.concatenate(kernels, axis=-1), groups=module.groups)
    options = {'epsilon': module.settings.bn_epsilon, 'activation': module.activation}
    return normalize(outputs, params['bn']['scale'], params['bn']['bias'], stats['mean'], stats['var'], **options)
