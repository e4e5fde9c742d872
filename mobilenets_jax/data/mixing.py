"""Mixup and cutmix on the device: every two neighbours of a batch are mixed with each other.

Paper: 1710.09412 (mixup), 1905.04899 (cutmix).
Reference: timm 1.0.31, data/mixup.py, mode 'pair'.
Differs: neighbours are paired rather than the first with the last, because rows 2i and 2i + 1 of a global batch are on
    the same device in every layout; the order of the examples is random, so the pairs are too. The draws of a pair
    depend on the seed and on its first example alone.
"""

import jax
import jax.numpy as jnp

from mobilenets_jax.data.options import DataOptions
from mobilenets_jax.errors import check


def mix(
    keys: jax.Array, images: jax.Array, labels: jax.Array, options: DataOptions
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mixes each example with its neighbour.

    Args:
        keys: [n] random keys, one an example; n is even.
        images: float32 [n, H, W, C].
        labels: int32 [n].
        options: with a positive `mixup_alpha` or `cutmix_alpha`, or both.

    Returns:
        The mixed images; the neighbours' labels, int32 [n]; and which share of each image is its own, float32 [n].
    """
    n, *shape = images.shape
    check(n % 2 == 0, 'batch_size', n, "examples at a time on a device cannot be paired by mixup's and cutmix's rule")
    keys = keys.reshape(n // 2, 2)[:, 0]
    pairs = images.reshape(n // 2, 2, *shape)
    mixed, share = jax.vmap(lambda key, pair: _mix_pair(key, pair, options))(keys, pairs)
    return mixed.reshape(images.shape), labels.reshape(-1, 2)[:, ::-1].reshape(n), jnp.repeat(share, 2)


def _mix_pair(key: jax.Array, pair: jax.Array, options: DataOptions) -> tuple[jax.Array, jax.Array]:
    """Two images [2, H, W, C] mixed with each other, and the share of its own that each keeps."""
    choice_key, mixup_key, cutmix_key, box_key = jax.random.split(key, 4)
    other = pair[::-1]
    results = []
    if options.mixup_alpha:
        share = _beta(mixup_key, options.mixup_alpha)
        results.append((share * pair + (1 - share) * other, share))
    if options.cutmix_alpha:
        inside = random_box(box_key, _beta(cutmix_key, options.cutmix_alpha), pair.shape[1:3])
        results.append((jnp.where(inside[..., None], other, pair), 1 - inside.mean(dtype=jnp.float32)))
    if len(results) == 1:
        return results[0]
    first = jax.random.bernoulli(choice_key)
    return jax.tree.map(lambda mixup, cutmix: jnp.where(first, mixup, cutmix), *results)


def random_box(key: jax.Array, share: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Cutmix's box of about 1 - `share` of the image around a random centre, cut at the border: bool [H, W]."""
    inside = jnp.ones((), bool)
    for axis, (length, axis_key) in enumerate(zip(size, jax.random.split(key), strict=True)):
        cut = (length * jnp.sqrt(1 - share)).astype(jnp.int32)
        start = jax.random.randint(axis_key, (), 0, length) - cut // 2
        position = jnp.expand_dims(jnp.arange(length), 1 - axis)
        inside &= (position >= start) & (position < start + cut)
    return inside


def _beta(key: jax.Array, alpha: float) -> jax.Array:
    return jax.random.beta(key, alpha, alpha, dtype=jnp.float32)
