"""A factor and a shift for each channel, and the activation: batch normalisation by statistics that are known."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mobilenets_jax.ops import native
from mobilenets_jax.ops.activations import ACTIVATIONS


class Affine(NamedTuple):
    """What may follow a convolution in the same pass: activation(outputs * factor + shift).

    Attributes:
        factor: [C], float32, or float64 for float64 outputs.
        shift: like `factor`.
        activation: a key of `ACTIVATIONS`.
    """

    factor: jax.Array
    shift: jax.Array
    activation: str

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps [N, H, W, C] to the same, in the dtype of `inputs`."""
        return _apply(self.activation, inputs, self.factor, self.shift)

    @property
    def constants(self) -> jax.Array:
        """[2, C], as the kernels take them."""
        return jnp.stack([self.factor, self.shift])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _apply(activation, inputs, factor, shift):
    if native.supports(inputs.dtype, activation):
        constants = Affine(factor, shift, activation).constants
        return native.call('norm_apply', inputs, inputs, constants, activation=activation)
    return _apply_plainly(activation, inputs, factor, shift)


def _apply_plainly(activation, inputs, factor, shift):
    return ACTIVATIONS[activation](inputs.astype(factor.dtype) * factor + shift).astype(inputs.dtype)


def _apply_forward(activation, *arrays):
    return _apply(activation, *arrays), arrays


def _apply_backward(activation, arrays, gradient):
    return jax.vjp(functools.partial(_apply_plainly, activation), *arrays)[1](gradient)


_apply.defvjp(_apply_forward, _apply_backward)


def affine_gradients(conv: Callable, activation: str, arrays: tuple[jax.Array, ...], gradient: jax.Array) -> tuple:
    """The gradients of a convolution that an `Affine` follows, by its inputs, its kernel and the affine's constants."""

    def apart(inputs, kernel, constants):
        return Affine(*constants, activation)(conv(inputs, kernel))

    return jax.vjp(apart, *arrays)[1](gradient)
