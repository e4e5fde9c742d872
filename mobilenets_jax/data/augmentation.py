"""Image functions that run on the device, inside the step: pure JAX, stateless, one example at a time under vmap.

Every random choice depends on (seed, epoch, index) of its example alone, so that it is the same in whatever batch, on
whatever device and after whatever restart the example is met.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mobilenets_jax.data.options import NORMALIZATIONS

# Of random erasing, as in timm.
ERASED_AREA = (0.02, 1 / 3)  # parts of the image
ERASED_ASPECT = (0.3, 1 / 0.3)  # height / width
ERASING_ATTEMPTS = 10


def normalize(images: jax.Array | np.ndarray, normalization: str) -> jax.Array:
    """Maps images [n, H, W, 3] in [0, 255], of any dtype, to float32 by a key of `NORMALIZATIONS`."""
    mean, std = (jnp.asarray(values, jnp.float32) for values in NORMALIZATIONS[normalization])
    return (images.astype(jnp.float32) - 255 * mean) / (255 * std)


def change_normalization(images: jax.Array, before: str, after: str) -> jax.Array:
    """Maps images [n, H, W, 3] that were normalised by one key of `NORMALIZATIONS` to what another makes of them."""
    if before == after:
        return images
    (mean, std), (new_mean, new_std) = (jnp.asarray(NORMALIZATIONS[name], images.dtype) for name in (before, after))
    return (images * std + mean - new_mean) / new_std


def example_keys(seed: int, epoch: jax.Array, index: jax.Array) -> jax.Array:
    """One key per example, [n], from the run's seed and the int32 [n] arrays `epoch` and `index`."""
    root = jax.random.key(seed)
    return jax.vmap(lambda e, i: jax.random.fold_in(jax.random.fold_in(root, e), i))(epoch, index)


def random_flip(keys: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors half of the images [n, H, W, C] left to right."""
    flip = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)


def random_shift(keys: jax.Array, images: jax.Array, *, max_pixels: int) -> jax.Array:
    """Shifts each image [n, H, W, C] by up to `max_pixels` along each axis; what comes from outside it is 0."""
    padding = [(0, 0), (max_pixels, max_pixels), (max_pixels, max_pixels), (0, 0)]
    offsets = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, 2 * max_pixels + 1))(keys)
    return jax.vmap(lambda image, offset: jax.lax.dynamic_slice(image, (*offset, 0), images.shape[1:]))(
        jnp.pad(images, padding), offsets
    )


def random_erasing(keys: jax.Array, images: jax.Array, *, probability: float, noise: bool) -> jax.Array:
    """Erases a rectangle of some of the normalised images.

    Paper: 1708.04896. Reference: timm 1.0.31, data/random_erasing.py.

    Args:
        keys: [n] random keys.
        images: float32 [n, H, W, C].
        probability: of each image.
        noise: whether normal noise is put there ('pixel' in timm) rather than zeros ('const'; torchvision's default).
    """

    def erase(key, image):
        chance_key, box_key, noise_key = jax.random.split(key, 3)
        inside = erased_box(box_key, image.shape[:2]) & (jax.random.uniform(chance_key) < probability)
        fill = jax.random.normal(noise_key, image.shape, image.dtype) if noise else jnp.zeros_like(image)
        return jnp.where(inside[..., None], fill, image)

    return jax.vmap(erase)(keys, images)


def erased_box(key: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Where random erasing erases, bool [H, W]: the first of ten drawn rectangles that is smaller than the image."""
    height, width = size
    area_key, aspect_key, place_key = jax.random.split(key, 3)
    attempts = (ERASING_ATTEMPTS,)
    area = height * width * jax.random.uniform(area_key, attempts, minval=ERASED_AREA[0], maxval=ERASED_AREA[1])
    low, high = jnp.log(jnp.array(ERASED_ASPECT, jnp.float32))
    aspect = jnp.exp(jax.random.uniform(aspect_key, attempts, minval=low, maxval=high))
    sides = jnp.round(jnp.sqrt(jnp.stack([area * aspect, area / aspect], axis=-1)))  # [attempts, 2]
    fits = (sides < jnp.array(size)).all(axis=-1)
    sides = jnp.where(fits.any(), sides[jnp.argmax(fits)], 0)
    start = jnp.floor(jax.random.uniform(place_key, (2,)) * (jnp.array(size) - sides + 1))
    row, column = jnp.arange(height)[:, None] - start[0], jnp.arange(width) - start[1]
    return (row >= 0) & (row < sides[0]) & (column >= 0) & (column < sides[1])


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
