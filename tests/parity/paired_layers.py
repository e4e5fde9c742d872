"""Runs one of our networks with another framework's weights and compares every layer, not only the logits.

Two implementations of one network call their layers with weights in the same order. So the reference gives a list of
`ReferenceLayer` in the order of its calls, ours is recorded in the order of its own, and layer n of one is layer n of
the other. Comparing the output of each layer with weights leaves a compensating error no place to hide.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np

from mobilenets_jax.inference import freeze
from mobilenets_jax.models.layers import BatchNorm, Conv
from mobilenets_jax.ops import ACTIVATIONS

WEIGHTED = (Conv, BatchNorm, nn.Dense)


@dataclasses.dataclass(frozen=True)
class ReferenceLayer:
    """A convolution, batch norm or dense layer of another framework.

    Attributes:
        name: for messages.
        weights: by our names ('kernel', 'bias', 'scale', 'mean', 'var'), in our layouts (HWIO; in, out).
        output: NHWC or [N, C].
    """

    name: str
    weights: dict[str, np.ndarray]
    output: np.ndarray


def _is_weighted_call(module: nn.Module, method: str) -> bool:
    return isinstance(module, WEIGHTED) and method == '__call__'


def _trace(model, images):
    """The layers with weights, path -> activation, in the order of their calls, and the shapes of the variables."""
    paths = {}

    def interceptor(call, args, kwargs, context):
        if _is_weighted_call(context.module, context.method_name):
            paths[context.module.path] = ACTIVATIONS[getattr(context.module, 'activation', 'linear')]
        return call(*args, **kwargs)

    with nn.intercept_methods(interceptor):
        shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)
    return paths, shapes


def copy_weights(model, images, layers: list[ReferenceLayer]):
    """The model's variables filled from the reference, and our layers, path -> activation, in the reference's order."""
    paths, shapes = _trace(model, images)
    assert len(paths) == len(layers), f'{len(paths)} layers with weights, the reference has {len(layers)}'
    variables = {'params': {}, 'batch_stats': {}}
    for path, layer in zip(paths, layers, strict=True):
        for name, value in layer.weights.items():
            collection = 'batch_stats' if name in ('mean', 'var') else 'params'
            expected = at(shapes[collection], path)[name].shape
            assert value.size == np.prod(expected), f'{"/".join(path)}/{name}: {expected}, {layer.name}: {value.shape}'
            at(variables[collection], path)[name] = value.reshape(expected).astype(np.float32)
    assert jax.tree.structure(shapes) == jax.tree.structure(variables), 'the reference leaves some weights unset'
    return variables, paths


def at(tree: dict, path) -> dict:
    for key in path:
        tree = tree.setdefault(key, {})
    return tree


def assert_same_network(
    model,
    images,
    layers: list[ReferenceLayer],
    logits: np.ndarray,
    tolerance: float = 1e-4,
    outputs=lambda outputs: outputs,
):
    """Copies the weights and compares the logits and every layer's output.

    Args:
        model: one of ours.
        images: float32 [N, H, W, 3].
        layers: the reference's layers with weights, in the order of their calls on the same images.
        logits: the reference's, [N, classes].
        tolerance: the largest difference, as a part of the largest magnitude in the reference's output.
        outputs: makes an array like the reference's of what ours returns.
    """
    variables, paths = copy_weights(model, images, layers)
    apply = jax.jit(functools.partial(model.apply, train=False, capture_intermediates=_is_weighted_call))
    (our_logits, _), state = apply(variables, images)
    for (path, activation), layer in zip(paths.items(), layers, strict=True):
        output = np.asarray(at(state['intermediates'], path)['__call__'][0])
        expected = np.asarray(activation(layer.output))  # ours is a part of the batch norm
        assert_close(output, expected, tolerance, f'{"/".join(path)} and {layer.name}')
    assert_close(np.asarray(outputs(our_logits)), logits, tolerance, 'logits')
    as_it_runs = np.asarray(outputs(freeze(model, variables)(images)))
    assert_close(as_it_runs, logits, tolerance, 'logits of the network as it runs')


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float, message: str):
    if expected.ndim == 4 and actual.ndim == 2:  # a dense layer that the reference writes as a 1x1 convolution
        expected = expected[:, 0, 0, :]
    assert actual.shape == expected.shape, f'{message}: {actual.shape} and {expected.shape}'
    error = np.max(np.abs(actual - expected)) / np.max(np.abs(expected))
    assert error < tolerance, f'{message}: {error:.2e} of the largest value'
