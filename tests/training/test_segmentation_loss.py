"""The loss of pixels, and confusion, worked out by hand; and that neither depends on how the images are spread."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mobilenets_jax.errors import UserError
from mobilenets_jax.evaluation.segmentation import class_iou, segmentation_metrics
from mobilenets_jax.training.parallel import AXIS_NAME
from mobilenets_jax.training.segmentation import SegmentationTask, confusion

CLASSES, IGNORED = 3, 255


class Linear:
    """A network whose logits are its images, times a parameter for each class."""

    head_spec = types.SimpleNamespace(align_corners=True)
    num_classes = CLASSES

    def apply(self, variables, images, train, **kwargs):
        logits = images * variables['params']['scale']
        return ((logits, {}), {}) if train else (logits, {})


def make_task(**fields):
    return SegmentationTask(model=Linear(), preprocess=lambda batch, train: batch['image'], **fields)


def make_batch(n, seed=0):
    """Images whose share of ignored pixels differs; all of the last one's are."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, (n, 4, 6))
    for image in range(n):
        labels[image].flat[: image * 24 // max(n - 1, 1)] = IGNORED
    images = generator.normal(size=(n, 4, 6, CLASSES)).astype(np.float32)
    return {'image': images, 'segmentation': labels.astype(np.uint8)}


PARAMS = {'scale': jnp.array([1.0, -0.5, 2.0])}


def gradient_on(devices, batch, **fields):
    """The mean over the devices of the gradients of their losses, as the training step takes it; and the sums."""
    task = make_task(**fields)
    split = {name: leaf.reshape(devices, -1, *leaf.shape[1:]) for name, leaf in batch.items()}

    def step(params, batch):
        gradient, (_, sums) = jax.grad(task.loss, has_aux=True)(params, {}, batch, jax.random.key(0))
        return jax.lax.pmean(gradient, AXIS_NAME), jax.lax.psum(sums, AXIS_NAME)

    mapped = jax.pmap(step, axis_name=AXIS_NAME, in_axes=(None, 0), out_axes=None, devices=jax.devices()[:devices])
    return mapped(PARAMS, split)


@pytest.mark.parametrize('devices', [2, 8])
def test_gradient_is_that_of_the_mean_over_the_valid_pixels_of_the_global_batch(devices):
    batch = make_batch(8)
    labels = batch['segmentation']
    valid = labels != IGNORED
    assert len(set(valid.sum(axis=(1, 2)))) == 8 and not valid[-1].any()

    def mean(params):
        logits = batch['image'] * params['scale']
        return optax.softmax_cross_entropy_with_integer_labels(logits[valid], labels[valid].astype(int)).mean()

    expected = jax.grad(mean)(PARAMS)['scale']
    found, sums = gradient_on(devices, batch)
    np.testing.assert_allclose(found['scale'], expected, rtol=1e-5)
    assert sums['count'] == valid.sum()
    said = make_task().training_metrics({name: np.float64(value) for name, value in sums.items()})
    assert said['loss'] == pytest.approx(float(mean(PARAMS)), rel=1e-5)
    right = (batch['image'] * np.asarray(PARAMS['scale'])).argmax(-1)[valid] == labels[valid]
    assert said['accuracy'] == pytest.approx(100 * right.mean())


@pytest.mark.parametrize('devices', [1, 8])
def test_class_weights_weigh_the_mean_over_the_global_batch(devices):
    batch, weights = make_batch(8), (0.5, 2.0, 0.0)
    labels = batch['segmentation']
    valid = labels != IGNORED
    per_pixel = np.array(weights)[labels[valid]]

    def mean(params):
        logits = (batch['image'] * params['scale'])[valid]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[valid].astype(int))
        return (losses * per_pixel).sum() / per_pixel.sum()

    found, sums = gradient_on(devices, batch, class_weights=weights)
    np.testing.assert_allclose(found['scale'], jax.grad(mean)(PARAMS)['scale'], rtol=1e-5)
    said = make_task().training_metrics({name: np.float64(value) for name, value in sums.items()})
    assert said['loss'] == pytest.approx(float(mean(PARAMS)), rel=1e-5)


@pytest.mark.parametrize('weights', [(1.0, 2.0), (1.0, -1.0, 1.0), (0.0, 0.0, 0.0)])
def test_wrong_class_weights_are_named(weights):
    with pytest.raises(UserError, match=r'segmentation.class_weights=\(.*must be 3 numbers, none negative'):
        make_task(class_weights=weights)


def test_images_whose_pixels_are_all_ignored_have_no_gradient_and_no_nan():
    batch = make_batch(2)
    batch['segmentation'][:] = IGNORED
    found, sums = gradient_on(2, batch)
    np.testing.assert_array_equal(found['scale'], 0)
    assert make_task().training_metrics({name: np.float64(value) for name, value in sums.items()})['loss'] == 0


def test_confusion_by_hand_leaves_ignored_pixels_out():
    labels = jnp.array([[0, 0, 1], [2, 255, 1]])
    predicted = jnp.array([[0, 1, 1], [2, 0, 0]])
    np.testing.assert_array_equal(confusion(labels, predicted, 3), [[1, 1, 0], [1, 1, 0], [0, 0, 1]])


def evaluate(task, batch):
    sums, rows = jax.jit(lambda batch: task.evaluate(PARAMS, {}, batch))(batch)
    assert sums == {}
    return jax.tree.map(np.asarray, rows)


def test_rows_are_the_confusion_and_the_loss_of_each_image():
    batch = make_batch(3)
    rows = evaluate(make_task(), batch)
    logits = batch['image'] * np.asarray(PARAMS['scale'])
    for image in range(3):
        labels, predicted = batch['segmentation'][image].ravel(), logits[image].argmax(-1).ravel()
        expected = np.zeros((CLASSES, CLASSES), int)
        for label, guess in zip(labels, predicted, strict=True):
            if label != IGNORED:
                expected[label, guess] += 1
        np.testing.assert_array_equal(rows['confusion'][image], expected)
    assert rows['loss'][2] == 0


def test_labels_of_resized_images_look_up_their_nearest_pixel():
    batch = make_batch(1)
    small = batch['image'][:, ::2, ::3]
    rows, columns = np.array([[0, 0, 1, 1]], np.int32), np.array([[0, 0, 0, 1, 1, 1]], np.int32)
    enlarged = evaluate(make_task(), {**batch, 'image': small.repeat(2, axis=1).repeat(3, axis=2)})
    looked_up = evaluate(make_task(), {**batch, 'image': small, 'rows': rows, 'columns': columns})
    np.testing.assert_array_equal(looked_up['confusion'], enlarged['confusion'])


def test_scales_and_flips_are_averaged_as_probabilities():
    batch = make_batch(1)
    task = make_task(eval_scales=(1.0,), eval_flip=True)
    found = task.log_probabilities(PARAMS, {}, jnp.asarray(batch['image']))
    # The network looks at each pixel alone, so that a mirrored image has the mirrored probabilities.
    expected = jax.nn.log_softmax(batch['image'] * PARAMS['scale'])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    twice = make_task(eval_scales=(1.0, 2.0)).log_probabilities(PARAMS, {}, jnp.ones((1, 5, 5, CLASSES)))
    np.testing.assert_allclose(jnp.exp(twice).sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(twice, jnp.broadcast_to(jax.nn.log_softmax(PARAMS['scale']), twice.shape), atol=1e-5)


@pytest.mark.parametrize('scales', [(), (1.0, 0.0)])
def test_scales_that_are_none_are_refused(scales):
    with pytest.raises(UserError, match=r'segmentation.eval_scales=\(.*\) must be positive numbers, at least one'):
        make_task(eval_scales=scales)


def test_iou_and_its_mean_by_hand():
    confused = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])  # the third class is nowhere
    np.testing.assert_allclose(class_iou(confused), [3 / 6, 4 / 7, np.nan])
    rows = {'confusion': np.stack([confused, 0 * confused]).astype(np.int32), 'loss': np.array([5.0, 0.0], np.float32)}
    metrics = segmentation_metrics({}, rows)
    assert metrics['miou'] == pytest.approx(100 * (3 / 6 + 4 / 7) / 2)
    assert metrics['pixel_accuracy'] == pytest.approx(70)
    assert metrics['loss'] == pytest.approx(0.5)


def test_class_that_no_label_has_is_not_in_the_mean_though_it_is_found():
    confused = np.array([[[3, 1], [0, 0]]], np.int32)
    assert segmentation_metrics({}, {'confusion': confused, 'loss': np.zeros(1)})['miou'] == pytest.approx(75)


def test_pixels_are_counted_beyond_an_int32():
    confused = np.full((3, 2, 2), 2**30, np.int32)
    assert segmentation_metrics({}, {'confusion': confused, 'loss': np.zeros(3)})['pixel_accuracy'] == 50
