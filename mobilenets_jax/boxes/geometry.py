"""Areas, overlaps and the two forms of boxes."""

import jax
import jax.numpy as jnp


def area(boxes: jax.Array) -> jax.Array:
    """Area of boxes in corners, [..., 4] -> [...]; 0 if the corners are in the wrong order."""
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def intersection(a: jax.Array, b: jax.Array) -> jax.Array:
    """Area that each box of one set shares with each of another.

    Args:
        a: in corners, [..., M, 4].
        b: in corners, [..., A, 4].

    Returns:
        [..., M, A].
    """
    a, b = a[..., :, None, :], b[..., None, :, :]
    sides = jnp.minimum(a[..., 2:], b[..., 2:]) - jnp.maximum(a[..., :2], b[..., :2])  # (..., M, A, 2)
    sides = jnp.maximum(sides, 0)
    return sides[..., 0] * sides[..., 1]


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Intersection over union of each box of one set with each of another, in [0, 1].

    It is 0 where both boxes have no area.

    Args:
        a: in corners, [..., M, 4].
        b: in corners, [..., A, 4].

    Returns:
        [..., M, A].
    """
    shared = intersection(a, b)
    union = area(a)[..., :, None] + area(b)[..., None, :] - shared
    return jnp.where(union > 0, shared / jnp.where(union > 0, union, 1), 0)


def to_corners(centred: jax.Array) -> jax.Array:
    """[y, x, height, width] with the centre -> [ymin, xmin, ymax, xmax]; both [..., 4]."""
    centre, half = centred[..., :2], centred[..., 2:] / 2
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def to_centred(corners: jax.Array) -> jax.Array:
    """[ymin, xmin, ymax, xmax] -> [y, x, height, width] with the centre; both [..., 4]."""
    low, high = corners[..., :2], corners[..., 2:]
    return jnp.concatenate([(low + high) / 2, high - low], axis=-1)


def clip(boxes: jax.Array) -> jax.Array:
    """Boxes in corners, [..., 4], cut at the border of their image, [0, 1]."""
    return jnp.clip(boxes, 0, 1)
