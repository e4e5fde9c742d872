"""Loss and hits, worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mobilenets_jax.errors import UserError
from mobilenets_jax.training.classification import ClassificationTask, label_rank, smoothed_cross_entropy


def test_label_smoothing_by_hand():
    logits = jnp.log(jnp.array([[0.7, 0.2, 0.1]]))
    plain = smoothed_cross_entropy(logits, jnp.array([0]), 0.0)
    smoothed = smoothed_cross_entropy(logits, jnp.array([0]), 0.3)  # targets 0.8, 0.1, 0.1
    np.testing.assert_allclose(plain, [-np.log(0.7)], rtol=1e-5)
    np.testing.assert_allclose(smoothed, [-(0.8 * np.log(0.7) + 0.1 * np.log(0.2) + 0.1 * np.log(0.1))], rtol=1e-5)


def test_rank_counts_the_classes_before_the_label():
    logits = jnp.array([[3.0, 1.0, 2.0, 0.0]] * 4)
    np.testing.assert_array_equal(label_rank(logits, jnp.arange(4)), [0, 2, 1, 3])


def test_ties_fall_as_argmax_has_them():
    logits = jnp.zeros((3, 3))
    np.testing.assert_array_equal(label_rank(logits, jnp.arange(3)), [0, 1, 2])


def test_label_without_a_number_is_no_hit():
    logits = jnp.array([[jnp.nan, 0.0, 1.0], [jnp.nan] * 3])
    np.testing.assert_array_equal(label_rank(logits, jnp.array([0, 1])), [3, 3])


def test_smoothing_of_one_is_refused():
    with pytest.raises(UserError, match=r'label_smoothing=1.0 must be in \[0, 1\).'):
        ClassificationTask(model=None, preprocess=None, label_smoothing=1.0)


class Echo:
    """A network whose logits are its images."""

    def apply(self, variables, images, **kwargs):
        return (images, {}), {}


def test_loss_of_mixed_images_is_that_of_soft_labels():
    logits = jax.random.normal(jax.random.key(0), (4, 5))
    labels, others = jnp.array([0, 1, 2, 3]), jnp.array([1, 0, 4, 3])
    share = jnp.array([0.9, 0.2, 0.5, 1.0])
    task = ClassificationTask(
        model=Echo(),
        preprocess=lambda batch, train: batch['image'],
        mix=lambda batch, images: (images, others, share),
        label_smoothing=0.1,
    )
    loss, (_, metrics) = task.loss({}, {}, {'image': logits, 'label': labels}, jax.random.key(0))
    soft = share[:, None] * jax.nn.one_hot(labels, 5) + (1 - share[:, None]) * jax.nn.one_hot(others, 5)
    expected = optax.softmax_cross_entropy(logits, optax.smooth_labels(soft, 0.1))
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-6)
    heavier = np.where(share < 0.5, others, labels)
    assert metrics['correct'] == (np.argmax(logits, axis=-1) == heavier).sum()
