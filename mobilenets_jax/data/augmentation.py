"""Image functions that run on the device, inside the step: pure JAX, stateless, one example at a time under vmap.

Every random choice depends on (seed, epoch, index) of its example alone, so that it is the same in whatever batch, on
whatever device and after whatever restart the example is met.
"""

import jax
import jax.numpy as jnp

# Name -> (mean, standard deviation) per channel, for images in [0, 1].
NORMALIZATIONS = {
    'symmetric': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # [-1, 1]: TF-slim and Keras MobileNets
    'imagenet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # torchvision
    'unit': ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),  # [0, 1]: a few of timm's
}


def normalize(images: jax.Array, normalization: str) -> jax.Array:
    """Maps images [n, H, W, 3] in [0, 255], of any dtype, to float32 by a key of `NORMALIZATIONS`."""
    mean, std = (jnp.asarray(values, jnp.float32) for values in NORMALIZATIONS[normalization])
    return (images.astype(jnp.float32) - 255 * mean) / (255 * std)


def example_keys(seed: int, epoch: jax.Array, index: jax.Array) -> jax.Array:
    """One key per example, [n], from the run's seed and the int32 [n] arrays `epoch` and `index`."""
    root = jax.random.key(seed)
    return jax.vmap(lambda e, i: jax.random.fold_in(jax.random.fold_in(root, e), i))(epoch, index)


def random_affine(
    keys: jax.Array,
    images: jax.Array,
    *,
    max_rotation_degrees: float,
    max_scale: float,
    max_shear: float,
    max_shift_fraction: float,
) -> jax.Array:
    """Rotates, scales, shears and shifts each image about its centre by its own uniformly drawn amounts.

    Args:
        keys: [n] random keys.
        images: [n, H, W, C], any dtype.
        max_rotation_degrees: rotation in [-max, max], in degrees.
        max_scale: enlargement by a factor in [1 - max, 1 + max].
        max_shear: horizontal shear in [-max, max], in pixels per pixel of height.
        max_shift_fraction: shift in [-max, max] along each axis, in parts of the image's height and width.

    Returns:
        float32 [n, H, W, C], bilinearly interpolated; what comes from outside the image is 0.
    """
    height, width = images.shape[1:3]
    drawn = jax.vmap(lambda key: jax.random.uniform(key, (5,), jnp.float32, -1, 1))(keys)  # [n, 5]
    rotation = drawn[:, 0] * jnp.float32(jnp.deg2rad(max_rotation_degrees))
    scale, shear = 1 + drawn[:, 1] * max_scale, drawn[:, 2] * max_shear
    cos, sin = jnp.cos(rotation) / scale, jnp.sin(rotation) / scale
    # Rows map an output offset (y, x) from the centre to the input offset it is read from.
    matrix = jnp.stack([cos, -sin, sin + shear * cos, cos - shear * sin], axis=-1).reshape(-1, 2, 2)
    shift = drawn[:, 3:] * max_shift_fraction * jnp.array([height, width], jnp.float32)
    return jax.vmap(_resample)(images.astype(jnp.float32), matrix, shift)


def _resample(image: jax.Array, matrix: jax.Array, shift: jax.Array) -> jax.Array:
    """Reads one image [H, W, C] bilinearly at `matrix @ offset + shift` from its centre, for each output pixel."""
    height, width = image.shape[:2]
    centre = (jnp.array([height, width], jnp.float32) - 1) / 2
    grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing='ij'), axis=-1) - centre  # [H, W, 2]
    y, x = (matrix[i, 0] * grid[..., 0] + matrix[i, 1] * grid[..., 1] + centre[i] + shift[i] for i in range(2))
    y0, x0 = jnp.floor(y), jnp.floor(x)
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))  # Every neighbour outside falls on this border of zeros.

    def read(row, column):
        rows = jnp.clip(row + 1, 0, height + 1).astype(jnp.int32)
        columns = jnp.clip(column + 1, 0, width + 1).astype(jnp.int32)
        return padded[rows, columns]  # [H, W, C]

    down, right = (y - y0)[..., None], (x - x0)[..., None]
    top = read(y0, x0) * (1 - right) + read(y0, x0 + 1) * right
    bottom = read(y0 + 1, x0) * (1 - right) + read(y0 + 1, x0 + 1) * right
    return top * (1 - down) + bottom * down
