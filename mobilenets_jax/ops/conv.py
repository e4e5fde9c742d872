"""Convolution, dense or depthwise: XLA's `lax.conv_general_dilated`, on CPUs a native op."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax import lax

from mobilenets_jax.ops.marked import marked

Pads = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))


class ConvOptions(NamedTuple):
    """A convolution without its arrays.

    Attributes:
        stride: step between outputs, the same along H and W.
        dilation: step between the taps of the kernel, the same along H and W.
        pads: zeros around the images.
        groups: of channels that are mixed by themselves; of a depthwise convolution as many as channels.
    """

    stride: int
    dilation: int
    pads: Pads
    groups: int


def conv(
    inputs: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: str | Sequence[tuple[int, int]] = 'SAME',
    groups: int = 1,
) -> jax.Array:
    """Convolves images.

    Args:
        inputs: floating point [N, H, W, C_in].
        kernel: [kh, kw, C_in / groups, C_out], of the dtype of `inputs`.
        stride: step between outputs, the same along H and W.
        dilation: step between the taps of the kernel, the same along H and W.
        padding: 'SAME' (as TensorFlow: asymmetric when the total is odd), 'VALID', or ((top, bottom), (left, right)).
        groups: C_in for a depthwise convolution.

    Returns:
        [N, H', W', C_out] of the dtype of `inputs`.
    """
    pads = explicit_pads(padding, inputs.shape[1:3], kernel.shape[:2], stride, dilation)
    return _conv(ConvOptions(stride, dilation, pads, groups), inputs, kernel)


def convolve_plainly(options: ConvOptions, inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """`conv` in plain JAX."""
    return lax.conv_general_dilated(
        inputs,
        kernel,
        window_strides=(options.stride, options.stride),
        padding=options.pads,
        rhs_dilation=(options.dilation, options.dilation),
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=options.groups,
    )


@marked
def _conv(options: ConvOptions, inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    return convolve_plainly(options, inputs, kernel)


def explicit_pads(
    padding: str | Sequence[tuple[int, int]], size: Sequence[int], taps: Sequence[int], stride: int, dilation: int
) -> Pads:
    """`padding` as numbers of pixels.

    Args:
        padding: 'SAME' (as TensorFlow: asymmetric when the total is odd), 'VALID', or ((top, bottom), (left, right)).
        size: of the inputs, (H, W).
        taps: of the kernel, (kh, kw).
        stride: step between outputs, the same along H and W.
        dilation: step between the taps of the kernel, the same along H and W.
    """
    if isinstance(padding, str):
        extent = [(count - 1) * dilation + 1 for count in taps]
        padding = lax.padtype_to_pads(size, extent, (stride, stride), padding)
    (top, bottom), (left, right) = padding
    return (int(top), int(bottom)), (int(left), int(right))
