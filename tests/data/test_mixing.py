"""Mixup and cutmix: what each image is made of, and that no layout changes it."""

import jax
import numpy as np
import pytest

from mobilenets_jax.data import augmentation, create_dataset, mixing
from mobilenets_jax.data.options import DataOptions
from mobilenets_jax.errors import UserError

N = 64
LABELS = np.arange(N, dtype=np.int32)
NEIGHBOUR = np.arange(N).reshape(-1, 2)[:, ::-1].ravel()


jitted_mix = jax.jit(mixing.mix, static_argnums=3)


def keys():
    return augmentation.example_keys(0, np.zeros(N, np.int32), np.arange(N, dtype=np.int32))


def mix(images, keys, labels=LABELS, **alphas):
    mixed, others, share = jitted_mix(keys, images, labels, DataOptions(16, N, 0, **alphas))
    return np.asarray(mixed), np.asarray(others), np.asarray(share)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(N, 16, 12, 3)).astype(np.float32)


def test_mixup_is_a_weighted_mean_of_neighbours(images):
    mixed, others, share = mix(images, keys(), mixup_alpha=0.3)
    assert np.array_equal(others, NEIGHBOUR)
    assert np.array_equal(share, share[NEIGHBOUR]) and len(np.unique(share)) == N // 2
    weight = share[:, None, None, None]
    np.testing.assert_allclose(mixed, weight * images + (1 - weight) * images[NEIGHBOUR], atol=1e-6)


@pytest.mark.parametrize('alpha', [0.2, 1.0])
def test_shares_are_drawn_from_the_beta_distribution(alpha):
    many = jax.random.split(jax.random.key(1), 4000)
    share = np.asarray(jax.jit(jax.vmap(lambda key: mixing._beta(key, alpha)))(many))
    assert abs(share.mean() - 0.5) < 0.03
    assert abs(share.var() - 1 / (4 * (2 * alpha + 1))) < 0.01  # of Beta(alpha, alpha)


def test_cutmix_puts_a_box_of_the_neighbour_and_counts_its_pixels(images):
    mixed, _, share = mix(images, keys(), cutmix_alpha=1.0)
    own = (mixed == images).all(axis=-1)
    assert (own | (mixed == images[NEIGHBOUR]).all(axis=-1)).all()
    np.testing.assert_allclose(own.mean(axis=(1, 2)), share, atol=1e-6)
    assert share.min() < 0.6 and share.max() > 0.9 and len(np.unique(share)) > 20
    for inside in ~own:
        rows, columns = inside.any(axis=1), inside.any(axis=0)
        assert np.array_equal(inside, rows[:, None] & columns)  # a rectangle
        for side in (rows, columns):
            assert np.abs(np.diff(side.astype(int))).sum() <= 2  # without gaps


def test_box_is_that_of_the_paper():
    """Its sides are sqrt(1 - share) of the image's, unless the border cuts it."""
    many = jax.random.split(jax.random.key(0), 500)
    boxes = np.asarray(jax.jit(jax.vmap(lambda key: mixing.random_box(key, 0.75, (40, 60))))(many))
    heights, widths = boxes.any(axis=2).sum(axis=1), boxes.any(axis=1).sum(axis=1)
    assert heights.max() == 20 and widths.max() == 30  # sqrt(1 - 0.75) = 1 / 2
    assert heights.min() == 10 and widths.min() == 15  # a centre on the border
    centres = boxes.mean(axis=0)
    assert centres[20, 30] > centres[0, 0] > 0


def test_both_take_turns(images):
    mixed, _, share = mix(images, keys(), mixup_alpha=1.0, cutmix_alpha=1.0)
    neighbours = images[NEIGHBOUR]
    cut = np.isclose(mixed, images).all(axis=-1) | np.isclose(mixed, neighbours).all(axis=-1)
    cut = cut.all(axis=(1, 2))
    weight = share[:, None, None, None]
    np.testing.assert_allclose(mixed[~cut], (weight * images + (1 - weight) * neighbours)[~cut], atol=1e-6)
    assert 16 <= cut.sum() <= 48


def test_devices_do_not_change_what_is_mixed(images):
    alphas = {'mixup_alpha': 1.0, 'cutmix_alpha': 1.0}
    whole = mix(images, keys(), **alphas)
    rows = [slice(start, start + 16) for start in range(0, N, 16)]
    parts = [mix(images[own], keys()[own], LABELS[own], **alphas) for own in rows]
    for expected, actual in zip(whole, zip(*parts, strict=True), strict=True):
        assert np.array_equal(np.concatenate(actual), expected)


def test_lone_example_cannot_be_mixed(images):
    with pytest.raises(UserError, match='^batch_size=3 examples at a time on a device cannot be paired'):
        mix(images[:3], keys()[:3], LABELS[:3], mixup_alpha=0.2)


def test_data_set_mixes_only_where_it_is_asked_to():
    arguments = {'image_size': 16, 'batch_size': 8, 'seed': 0}
    assert create_dataset('digits', **arguments).device_mix is None
    mixing_dataset = create_dataset('digits', mixup_alpha=0.2, **arguments)
    batch = {'label': LABELS[:8], 'epoch': LABELS[:8] * 0, 'index': LABELS[:8]}
    images = np.zeros((8, 16, 16, 3), np.float32)
    mix = jax.jit(mixing_dataset.device_mix)
    shares = [mix(batch | {'epoch': LABELS[:8] * 0 + epoch}, images)[2] for epoch in (0, 1, 0)]
    assert np.array_equal(shares[0], shares[2]) and not np.array_equal(shares[0], shares[1])
