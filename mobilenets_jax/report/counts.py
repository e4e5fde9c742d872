"""Exact parameter and multiply-add counts, read from the network that would really run.

Parameters come from the shapes of the initialised variables, multiply-adds from the traced computation: every
convolution and matrix product counts the products it sums, nothing else counts (no normalisation, activation, pooling,
bias, or resizing, though JAX resizes by matrix products), which is the papers' convention. One multiply-add is two
FLOPs.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend import core

from mobilenets_jax.image_size import ImageSize, height_and_width
from mobilenets_jax.models import create_model
from mobilenets_jax.ops.backend import compiling_for
from mobilenets_jax.ops.resize import interpolate

PRODUCTS = ('conv_general_dilated', 'dot_general')
UNCOUNTED = (interpolate.__name__,)  # functions whose products are no layer's


@dataclasses.dataclass(frozen=True)
class Counts:
    """What one network costs.

    Attributes:
        params: trainable parameters: kernels, biases, batch-norm scales and offsets.
        batch_stats: running means and variances.
        norm_params: batch-norm scales and offsets, contained in `params`.
        madds: multiply-adds of one image.
    """

    params: int
    batch_stats: int
    norm_params: int
    madds: int


def count_model(name: str, *, image_size: int = 224, **kwargs) -> Counts:
    """Counts a network at an image size in pixels; `kwargs` are those of `create_model`."""
    return count_module(create_model(name, **kwargs), image_size)


def count_module(model: nn.Module, image_size: ImageSize) -> Counts:
    """Counts a network at an image size in pixels, a side or height and width."""
    jaxpr, variables = _traced(model, image_size, batch=1)
    named = jax.tree_util.tree_leaves_with_path(variables['params'])
    norm_params = sum(leaf.size for path, leaf in named if any(key.key == 'bn' for key in path))
    return Counts(
        params=_size(variables['params']),
        batch_stats=_size(variables.get('batch_stats', {})),
        norm_params=norm_params,
        madds=sum(_equation_madds(equation) for equation in equations(jaxpr, but=UNCOUNTED)),
    )


def product_sizes(model: nn.Module, image_size: ImageSize, batch: int) -> int:
    """How many values the convolutions and matrix products of a forward pass read and write: inputs, kernels, outputs.

    Args:
        model: see `create_model`.
        image_size: in pixels, a side or height and width.
        batch: images.
    """
    jaxpr, _ = _traced(model, image_size, batch)
    products = [equation for equation in equations(jaxpr, but=UNCOUNTED) if equation.primitive.name in PRODUCTS]
    return sum(variable.aval.size for equation in products for variable in (*equation.invars, *equation.outvars))


def _traced(model: nn.Module, image_size: ImageSize, batch: int) -> tuple[core.Jaxpr, Any]:
    """The computation of a batch, initialisation included, and the shapes of the variables."""
    images = jax.ShapeDtypeStruct((batch, *height_and_width(image_size), 3), jnp.float32)
    initialise = functools.partial(model.init_with_output, train=False)
    with compiling_for('tpu'):  # where every layer is one convolution or matrix product, as it is defined
        jaxpr, (_, variables) = jax.make_jaxpr(initialise, return_shape=True)(jax.random.key(0), images)
    return jaxpr.jaxpr, variables


def _size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def equations(jaxpr: core.Jaxpr, but: Sequence[str] = ()) -> Iterator[core.JaxprEqn]:
    """All equations, also those inside of jitted and custom-derivative functions except those named in `but`."""
    for equation in jaxpr.eqns:
        yield equation
        if equation.params.get('name') in but:
            continue
        for parameter in equation.params.values():
            inner = getattr(parameter, 'jaxpr', parameter)
            if isinstance(inner, core.Jaxpr):
                yield from equations(inner, but)


def _equation_madds(equation: core.JaxprEqn) -> int:
    if equation.primitive.name == 'conv_general_dilated':
        kernel_shape = equation.invars[1].aval.shape
        out_feature = equation.params['dimension_numbers'].rhs_spec[0]
        products_per_output = math.prod(kernel_shape) // kernel_shape[out_feature]
        return equation.outvars[0].aval.size * products_per_output
    if equation.primitive.name == 'dot_general':
        (contracting, _), _ = equation.params['dimension_numbers']
        lhs = equation.invars[0].aval.shape
        return equation.outvars[0].aval.size * math.prod(lhs[axis] for axis in contracting)
    return 0
