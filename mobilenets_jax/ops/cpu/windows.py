"""What the taps of a convolution's kernel see, tap by tap."""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from mobilenets_jax.ops.conv import Pads


def pad_images(images: jax.Array, pads: Pads, value: float = 0) -> jax.Array:
    """Pads H and W of [N, H, W, C] with `value`; a negative width crops."""
    return lax.pad(images, jnp.array(value, images.dtype), ((0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)))


def windows(
    inputs: jax.Array, taps: Sequence[int], stride: int, dilation: int, pads: Pads
) -> Iterator[tuple[tuple[int, int], jax.Array]]:
    """Yields ((i, j), the inputs of tap i, j of the kernel: [N, H', W', C]) for every tap, row by row."""
    padded = pad_images(inputs, pads)
    batch, height, width, channels = padded.shape
    for i in range(taps[0]):
        for j in range(taps[1]):
            top, left = i * dilation, j * dilation
            bottom = height - (taps[0] - 1 - i) * dilation
            right = width - (taps[1] - 1 - j) * dilation
            yield (i, j), lax.slice(padded, (0, top, left, 0), (batch, bottom, right, channels), (1, stride, stride, 1))
