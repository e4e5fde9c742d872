"""Batch norms that were folded into their convolutions, made fit for training again."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from mobilenets_jax.models.layers import Conv
from mobilenets_jax.weights.network import trace

PyTree = Any

SQUARED_NORM = 2.0  # of a filter that He's initialiser draws, on average


def _is_conv_call(module: nn.Module, method: str) -> bool:
    return isinstance(module, Conv) and method == '__call__'


def unfold_batch_norms(
    model: Any, variables: PyTree, images: jax.Array, is_fresh: Callable[[str], bool] = lambda path: False
) -> PyTree:
    """Gives every batch norm the statistics of its input, and the scale and bias that leave the network as it was.

    A folded network normalises by mean 0 and variance 1, which no batch of its activations has: trained with batch
    statistics it would be another network from the first step on. And its kernels have the scales of its batch norms in
    them. Behind a batch norm the size of a filter changes nothing but how far a step turns it, by the inverse of its
    square: of MobileNetV3-Small's 8-bit file a step turned them a hundredth as far as fresh ones. Each filter gets the
    norm that `he` draws it with, the square root of 2.

    Args:
        model: one of ours.
        variables: 'params' and 'batch_stats'.
        images: [n, H, W, 3], normalised: the statistics are theirs.
        is_fresh: whether a variable, by its path, is not of the folded weights, such as those of a new head: it is left
            as it is.
    """
    epsilons = {layer.path: layer.epsilon for layer in trace('', model).layers}

    @jax.jit
    def statistics(variables: PyTree) -> PyTree:
        _, captured = model.apply(variables, images, train=False, capture_intermediates=_is_conv_call)
        return jax.tree.map(lambda x: (x.mean((0, 1, 2)), x.var((0, 1, 2))), captured['intermediates'])

    leaves = flatten_dict(variables, sep='/')
    for path, ((mean, var),) in flatten_dict(statistics(variables), sep='/').items():
        norm = path.removesuffix('conv/__call__') + 'bn'
        # A head's last convolution has no batch norm.
        if f'params/{norm}/scale' not in leaves or is_fresh(f'params/{norm}/scale'):
            continue
        names = [f'params/{norm}/scale', f'params/{norm}/bias', f'batch_stats/{norm}/mean', f'batch_stats/{norm}/var']
        scale, bias, old_mean, old_var = (leaves[name] for name in names)
        epsilon = epsilons[norm]
        gain = scale / jnp.sqrt(old_var + epsilon)
        kernel = f'params/{norm.removesuffix("bn")}conv/kernel'
        norms = jnp.sqrt(jnp.sum(jnp.square(leaves[kernel]), (0, 1, 2)) / SQUARED_NORM)
        norms = jnp.where(norms > 0, norms, 1.0)
        new_mean, new_var = mean / norms, var / jnp.square(norms)
        new_scale = gain * norms * jnp.sqrt(new_var + epsilon)
        leaves[kernel] = leaves[kernel] / norms
        leaves |= dict(zip(names, (new_scale, bias + gain * (mean - old_mean), new_mean, new_var), strict=True))
    return unflatten_dict(leaves, sep='/')
