"""Normalisation by statistics that are known, and the activation behind it: one factor and one shift a channel."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from mobilenets_jax.ops.activations import ACTIVATIONS
from mobilenets_jax.ops.cpu import native
from mobilenets_jax.ops.cpu.gradients import differentiated_as
from mobilenets_jax.ops.norm import factor_and_shift


class Normalization(NamedTuple):
    """What may follow a convolution in the same pass.

    Attributes:
        scale: [C], float32, or float64 for float64 outputs; like the next three.
        bias: what is added to the normalised and scaled values.
        mean: what is subtracted.
        variance: (biased) variance.
        epsilon: added to the variance.
        activation: a key of `ACTIVATIONS`.
        residual: what is added in the end, like the outputs, or None.
    """

    scale: jax.Array
    bias: jax.Array
    mean: jax.Array
    variance: jax.Array
    epsilon: float
    activation: str
    residual: jax.Array | None = None

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps [N, H, W, C] to the same, in the dtype of `inputs`."""
        return self.added_to(_apply(self.options, inputs, *self.arrays))

    def added_to(self, outputs: jax.Array) -> jax.Array:
        """The sum of normalised `outputs` [N, H, W, C] and the residual."""
        return outputs if self.residual is None else outputs + self.residual

    @property
    def arrays(self) -> tuple[jax.Array, ...]:
        """Scale, bias, mean, variance."""
        return self[:4]

    @property
    def options(self) -> tuple[float, str]:
        """Epsilon and activation."""
        return self[4:6]

    def factor_and_shift(self) -> tuple[jax.Array, jax.Array]:
        """Such that the outputs are activation(inputs * factor + shift), [C] each, or [0] of arrays [0].

        XLA computes them once and for all if the four arrays are constants.
        """
        if self.scale.size == 0:
            return self.scale, self.bias
        return factor_and_shift(self.epsilon, *self.arrays)


def _apply_plainly(options, inputs, *arrays):
    normalization = Normalization(*arrays, *options)
    factor, shift = normalization.factor_and_shift()
    return ACTIVATIONS[normalization.activation](inputs.astype(factor.dtype) * factor + shift).astype(inputs.dtype)


@differentiated_as(_apply_plainly, static=1)
def _apply(options, inputs, *arrays):
    normalization = Normalization(*arrays, *options)
    if native.supports(inputs.dtype, normalization.activation):
        constants = normalization.factor_and_shift()
        return native.call('norm_apply', inputs, inputs, statistics=constants, activation=normalization.activation)
    return _apply_plainly(options, inputs, *arrays)


def gradients_of_both(
    conv: Callable,
    options: tuple[float, str],
    inputs: jax.Array,
    kernel: jax.Array,
    arrays: Sequence[jax.Array],
    gradient: jax.Array,
) -> tuple[jax.Array, ...]:
    """The gradients of a convolution that a `Normalization` follows, by its inputs, its kernel and the four arrays."""

    def apart(inputs, kernel, *arrays):
        return Normalization(*arrays, *options)(conv(inputs, kernel))

    return jax.vjp(apart, inputs, kernel, *arrays)[1](gradient)
