"""Loss and hits, worked out by hand."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from mobilenets_jax.config import ConfigView
from mobilenets_jax.errors import UserError
from mobilenets_jax.evaluation.classification import classification_metrics
from mobilenets_jax.evaluation.evaluator import Evaluator
from mobilenets_jax.tasks import get_task
from mobilenets_jax.training import parallel
from mobilenets_jax.training.classification import ClassificationTask, label_rank, smoothed_cross_entropy
from mobilenets_jax.training.step import make_eval_step


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


class LeftEdge:
    """A network whose logits are the channels of an image's first pixel."""

    def apply(self, variables, images, **kwargs):
        return images[:, 0, 0], {}


def test_flips_average_probabilities_on_any_devices():
    """Of the first pixel and the last one of the first row; nine examples on eight devices."""
    pixels = np.random.default_rng(3).normal(0, 2, (9, 2, 5, 10)).astype(np.float32)
    labels = np.arange(9, dtype=np.int32)
    task = ClassificationTask(model=LeftEdge(), preprocess=lambda batch, train: batch['image'], eval_flip=True)
    examples = {'image': pixels, 'label': labels, 'index': labels, 'mask': np.ones(9, np.float32)}
    padded = {
        name: np.concatenate([rows, np.zeros((7, *rows.shape[1:]), rows.dtype)]) for name, rows in examples.items()
    }
    batch = {name: rows.reshape(8, 2, *rows.shape[1:]) for name, rows in padded.items()}
    step = parallel.parallel_eval_step(make_eval_step(task))
    found = Evaluator(step, lambda: iter([batch]), 9, classification_metrics)(*parallel.replicate(({}, {})))
    edges = pixels[:, 0, 0].astype(np.float64), pixels[:, 0, -1].astype(np.float64)
    first, last = (np.exp(edge) / np.exp(edge).sum(axis=1, keepdims=True) for edge in edges)
    mean = (first + last) / 2
    own = mean[np.arange(9), labels]
    assert found.metrics == {
        'top1': pytest.approx(100 * np.mean(mean.argmax(axis=1) == labels)),
        'top5': pytest.approx(100 * np.mean((mean > own[:, None]).sum(axis=1) < 5)),
        'loss': pytest.approx(-np.log(own).mean(), rel=1e-5),
        'count': 9,
    }
    np.testing.assert_array_equal(found.rows['predicted'], mean.argmax(axis=1))
    np.testing.assert_allclose(found.rows['probability'], mean.max(axis=1), rtol=1e-5)
    of_logits = sum(edges).argmax(axis=1)
    for other in (first.argmax(axis=1), last.argmax(axis=1), of_logits):  # which would all be something else
        assert (mean.argmax(axis=1) != other).any()


def test_the_config_asks_for_flips():
    config = ConfigView(base.get_config().to_dict())
    dataset = types.SimpleNamespace(device_preprocess=None, device_mix=None)
    for flip in (False, True):
        asked = config.updated({'evaluation.flip': flip})
        assert get_task('classification').create_task(asked, dataset, None, None).eval_flip is flip
