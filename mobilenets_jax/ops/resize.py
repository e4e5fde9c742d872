"""Images resized bilinearly, by both rules that segmentation networks are trained with.

For export it is one operation, by the name under which the converter of LiteRT knows it.

Reference: `tf.compat.v1.image.resize_bilinear(align_corners=True)`, as deeplab calls it;
    `torch.nn.functional.interpolate` with `align_corners=False`, as torchvision does.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mobilenets_jax.ops.backend import EXPORT, backend

# Reference: google-ai-edge/litert-torch, odml_torch/composite; its attributes are those of PyTorch's operation.
COMPOSITE = 'odml.upsample_bilinear2d'


def resize_bilinear(images: jax.Array, size: Sequence[int], *, align_corners: bool) -> jax.Array:
    """Resizes without antialiasing.

    In a traced program it is one function named `interpolate`, which `report.counts` leaves out.

    Args:
        images: floating point [N, H, W, C].
        size: height and width of the outputs, in pixels.
        align_corners: whether the centres of the corner pixels fall upon each other; else the outer edges of the images
            do, and pixels beyond the outermost centres are the outermost pixel.

    Returns:
        [N, *size, C] of the dtype of `images`.
    """
    if images.shape[1:3] == tuple(size):
        return images
    resize = functools.partial(interpolate, size=tuple(size), align_corners=align_corners)
    if backend() != EXPORT:
        return resize(images)
    known = jax.lax.composite(lambda images, **attributes: resize(images), COMPOSITE)
    return known(images, size=np.array(size, np.int64), align_corners=align_corners, is_nchw_op=False)


@functools.partial(jax.jit, static_argnames=('size', 'align_corners'))
def interpolate(images: jax.Array, size: tuple[int, int], align_corners: bool) -> jax.Array:
    """See `resize_bilinear`."""
    for axis, target in enumerate(size, start=1):
        images = _resize_axis(images, axis, target, align_corners)
    return images


def _resize_axis(images: jax.Array, axis: int, target: int, align_corners: bool) -> jax.Array:
    source = images.shape[axis]
    if source == target:
        return images
    shape = (*images.shape[:axis], target, *images.shape[axis + 1 :])
    if source == 1:
        return jnp.broadcast_to(images, shape)
    if align_corners and target == 1:
        return jax.lax.slice_in_dim(images, 0, 1, axis=axis)
    scale = (target - 1) / (source - 1) if align_corners else target / source
    translation = 0.5 - 0.5 * scale if align_corners else 0.0
    return jax.image.scale_and_translate(
        images, shape, (axis,), jnp.array([scale]), jnp.array([translation]), method='linear', antialias=False
    )
