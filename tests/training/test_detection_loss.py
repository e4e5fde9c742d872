"""The losses of a detector worked out by hand, and that they depend neither on padding nor on how images are spread."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mobilenets_jax.boxes.coder import BoxCoder
from mobilenets_jax.boxes.matching import match
from mobilenets_jax.boxes.suppression import TF_NMS, TORCHVISION_NMS
from mobilenets_jax.errors import UserError
from mobilenets_jax.training.detection import LOSSES, DetectionLossSpec, DetectionTask, Targets, detection_losses
from mobilenets_jax.training.parallel import AXIS_NAME
from mobilenets_jax.training.task import headline_metric

CLASSES, SIDE = 3, 4
ANCHORS = np.array(
    [[(y + 0.5) / SIDE, (x + 0.5) / SIDE, 0.3, 0.3] for y in range(SIDE) for x in range(SIDE)], np.float32
)
PARAMS = {'codes': jnp.array([0.5, -1.0, 2.0, 0.3]), 'logits': jnp.array([1.0, -0.5, 2.0, 0.7])}


class Linear:
    """A detector with an anchor for each pixel, whose outputs are the image's channels, times parameters."""

    def __init__(self, scores='sigmoid'):
        self.head_spec = types.SimpleNamespace(coder=BoxCoder(), scores=scores)

    def anchors(self, image_size):
        assert image_size == (SIDE, SIDE)
        return ANCHORS

    def apply(self, variables, images, train, **kwargs):
        pixels = images.reshape(len(images), -1, images.shape[-1])
        params = variables['params']
        outputs = {'codes': pixels[..., :4] * params['codes'], 'logits': pixels[..., 4:] * params['logits']}
        return ((outputs, {}), {}) if train else (outputs, {})


def preprocess(batch, train):
    return batch['image']


@functools.cache
def make_task(loss='tf', **fields):
    spec = dataclasses.replace(LOSSES[loss], **fields)
    scores = 'softmax' if spec.classification == 'softmax' else 'sigmoid'
    return DetectionTask(model=Linear(scores), preprocess=preprocess, loss_spec=spec, nms=TF_NMS)


def make_batch(n, seed=0, counts=None, padded=6):
    """Images with no box and with up to five."""
    generator = np.random.default_rng(seed)
    counts = generator.permutation(np.arange(n) % 6) if counts is None else np.asarray(counts)
    low = generator.uniform(0, 0.6, (n, padded, 2))
    high = low + generator.uniform(0.1, 0.4, (n, padded, 2))
    valid = np.arange(padded) < counts[:, None]
    boxes = np.where(valid[..., None], np.concatenate([low, high], axis=-1), [0, 0, 1, 1])
    return {
        'image': generator.normal(size=(n, SIDE, SIDE, 4 + CLASSES + 1)).astype(np.float32),
        'boxes': boxes.astype(np.float32),
        'labels': np.where(valid, generator.integers(0, CLASSES, (n, padded)), 0).astype(np.int32),
        'valid': valid,
    }


@functools.cache
def step_on(devices, task):
    def step(params, batch):
        (loss, (_, sums)), gradient = jax.value_and_grad(task.loss, has_aux=True)(params, {}, batch, jax.random.key(0))
        return *jax.lax.pmean((loss, gradient), AXIS_NAME), jax.lax.psum(sums, AXIS_NAME)

    return jax.pmap(step, axis_name=AXIS_NAME, in_axes=(None, 0), out_axes=None, devices=jax.devices()[:devices])


def gradient_on(devices, batch, task):
    """The mean over the devices of the losses and gradients, as the training step takes it; and the sums."""
    split = {name: leaf.reshape(devices, len(leaf) // devices, *leaf.shape[1:]) for name, leaf in batch.items()}
    loss, gradient, sums = step_on(devices, task)(PARAMS, split)
    return float(loss), gradient, {name: np.float64(value) for name, value in sums.items()}


SPREAD = {
    'boxes everywhere': None,
    'boxes on one device only': [5, 0, 0, 0, 0, 0, 0, 0],
    'one box in all': [0, 0, 0, 1, 0, 0, 0, 0],
    'no box at all': [0] * 8,
}


@pytest.mark.parametrize('loss', ['tf', 'tf_v2', 'torchvision'])
@pytest.mark.parametrize('counts', SPREAD.values(), ids=SPREAD.keys())
def test_gradient_does_not_depend_on_the_devices_and_is_finite(loss, counts):
    batch, task = make_batch(8, counts=counts), make_task(loss)
    expected_loss, expected, expected_sums = gradient_on(1, batch, task)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(expected))
    said = task.training_metrics(expected_sums)
    assert said['loss'] == pytest.approx(expected_loss, rel=1e-6)
    assert said['loss'] == pytest.approx(said['class_loss'] + said['box_loss'], rel=1e-6)
    for devices in (2, 8):
        found_loss, found, sums = gradient_on(devices, batch, task)
        assert found_loss == pytest.approx(expected_loss, rel=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), found, expected)
        assert task.training_metrics(sums) == pytest.approx(said, rel=1e-5)


def test_each_device_divides_by_its_own_matches_where_that_is_asked_for():
    batch = make_batch(8, counts=[5, 5, 4, 5, 1, 0, 0, 0])
    task = make_task(per_replica_normalization=True)
    halves = [gradient_on(1, {name: leaf[part] for name, leaf in batch.items()}, make_task()) for part in
              (slice(0, 4), slice(4, 8))]  # fmt: skip
    loss, gradient, _ = gradient_on(2, batch, task)
    assert loss == pytest.approx((halves[0][0] + halves[1][0]) / 2, rel=1e-5)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, halves[0][1], halves[1][1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), gradient, mean)
    assert loss != pytest.approx(gradient_on(2, batch, make_task())[0], rel=0.01)


def test_images_without_boxes_are_trained_as_background_but_not_by_torchvision():
    batch = make_batch(8, counts=[0] * 8)
    for loss in LOSSES:
        value, gradient, sums = gradient_on(1, batch, make_task(loss))
        np.testing.assert_array_equal(gradient['codes'], 0)
        assert bool(np.any(gradient['logits'] != 0)) == (value > 0) == (loss != 'torchvision')
        assert make_task().training_metrics(sums)['empty'] == 100


@pytest.mark.parametrize('loss', ['tf', 'torchvision'])
def test_padding_changes_nothing(loss):
    batch = make_batch(8)
    more = make_batch(8, padded=11)
    longer = {name: batch[name] if name == 'image' else more[name] for name in batch}
    for name in ('boxes', 'labels', 'valid'):
        longer[name] = longer[name].copy()
        longer[name][:, :6] = batch[name]
    (loss_a, gradient_a, sums_a), (loss_b, gradient_b, sums_b) = (
        gradient_on(1, each, make_task(loss)) for each in (batch, longer)
    )
    assert loss_a == loss_b and sums_a == sums_b
    jax.tree.map(np.testing.assert_array_equal, gradient_a, gradient_b)


def test_counts_are_those_of_real_boxes():
    batch = make_batch(8, counts=[0, 2, 2, 5, 0, 5, 0, 2])
    matched = 0
    for boxes, valid in zip(batch['boxes'], batch['valid'], strict=True):
        matched += (jax.jit(match)(boxes[valid], valid[valid], ANCHORS) >= 0).sum()
    assert 0 < matched <= 8 * SIDE * SIDE
    for devices in (1, 2):
        said = make_task().training_metrics(gradient_on(devices, batch, make_task())[2])
        assert said['boxes'] == 2 and said['empty'] == 100 * 3 / 8 and said['matched'] == matched / 8


def test_a_batch_may_have_room_for_no_box():
    batch = make_batch(2, counts=[0, 0], padded=0)
    value, gradient, _ = gradient_on(1, batch, make_task())
    assert value > 0 and np.isfinite(gradient['logits']).all()


# Five anchors of one image; the second and the fourth have a box; four columns.
LOGITS = np.array([[[2, -1, 0, 0.5], [0, 1, -2, 3], [-1, 0, 0, 2], [1, 1, 1, 1], [4, 0, -3, 0]]], np.float32)
CODES = np.array([[[0] * 4, [0.5, -3, 0.2, 0], [9] * 4, [1, 1, 1, -2], [0] * 4]], np.float32)
TARGETS = Targets(
    matched=jnp.array([[False, True, False, True, False]]),
    columns=jnp.array([[0, 3, 0, 2, 0]], jnp.int32),
    codes=jnp.array([[[7.0] * 4, [0, 0, 0, 0], [7] * 4, [1, 0, 1, 1], [7] * 4]]),
)


def losses_of(**fields):
    spec = DetectionLossSpec(**fields)
    losses = detection_losses({'codes': jnp.asarray(CODES), 'logits': jnp.asarray(LOGITS)}, TARGETS, spec)
    return tuple(float(value[0]) for value in losses)


def test_smooth_l1_by_hand():
    # Of the second anchor .5 * .25 + 2.5 + .5 * .04 + 0, of the fourth 0 + .5 + 0 + 2.5.
    assert losses_of(box_weight=1.0)[1] == pytest.approx(2.645 + 3.0)
    assert losses_of()[1] == pytest.approx((2.645 + 3.0) / 4)
    # Huber's loss: .5 x^2 to the distance delta, then delta (x - delta / 2).
    near = 0.5 * 0.25 + 2 * (3 - 1) + 0.5 * 0.04 + 0.5 * 1 + 2 * (3 - 1)
    assert losses_of(box_weight=1.0, localization_delta=2.0)[1] == pytest.approx(near)


@pytest.mark.parametrize('background', [False, True])
def test_focal_loss_is_that_of_the_formula(background):
    one_hot = np.eye(4, dtype=np.float32)[np.asarray(TARGETS.columns)]
    if not background:
        one_hot[..., 0] = 0
    probability = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    right = np.where(one_hot == 1, probability, 1 - probability)
    weight = np.where(one_hot == 1, 0.75, 0.25)
    expected = (-weight * (1 - right) ** 2 * np.log(right)).sum()
    assert losses_of(background_target=background)[0] == pytest.approx(expected, rel=1e-5)
    library = optax.sigmoid_focal_loss(jnp.asarray(LOGITS), jnp.asarray(one_hot), alpha=0.75, gamma=2.0).sum()
    assert losses_of(background_target=background)[0] == pytest.approx(float(library), rel=1e-5)
    plain = (-np.log(right)).sum()
    assert losses_of(classification='sigmoid', background_target=background)[0] == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize('logit', [-200.0, 200.0])
@pytest.mark.parametrize('loss', LOSSES)
def test_far_logits_have_finite_losses_and_gradients(loss, logit):
    logits = jnp.asarray(LOGITS).at[..., 1::2].set(logit).at[..., ::2].set(-logit)

    def total(logits):
        return detection_losses({'codes': jnp.asarray(CODES), 'logits': logits}, TARGETS, LOSSES[loss])[0].sum()

    value, gradient = jax.value_and_grad(total)(logits)
    assert np.isfinite(value) and value > 50 and np.isfinite(gradient).all()


def test_hard_negatives_are_those_of_the_highest_loss():
    entropy = -np.log(np.take_along_axis(
        np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True), np.asarray(TARGETS.columns)[..., None], -1
    ))[0, :, 0]  # fmt: skip
    negatives = np.sort(entropy[[0, 2, 4]])[::-1]
    positives = entropy[[1, 3]].sum()
    for per_positive, count in ((0.0, 0), (0.5, 1), (1.0, 2), (3.0, 3)):
        found = losses_of(classification='softmax', negatives_per_positive=per_positive)[0]
        assert found == pytest.approx(positives + negatives[:count].sum(), rel=1e-5)
    found = losses_of(classification='softmax', negatives_per_positive=0.5, min_negatives=2)[0]
    assert found == pytest.approx(positives + negatives[:2].sum(), rel=1e-5)


def test_evaluation_returns_the_detections_of_each_image():
    batch = make_batch(3)
    batch['image'][0, ..., 4:] = -1  # positive parameters: no class of the first image has a score above a half
    task = dataclasses.replace(make_task(), nms=dataclasses.replace(TF_NMS, score_threshold=0.5))
    params = {**PARAMS, 'logits': jnp.abs(PARAMS['logits'])}
    sums, rows = jax.jit(lambda batch: task.evaluate(params, {}, batch))(batch)
    assert sums == {}
    assert {name: (row.shape, row.dtype) for name, row in rows.items()} == {
        'boxes': ((3, 100, 4), np.float32), 'scores': ((3, 100), np.float32), 'labels': ((3, 100), np.int32)
    }  # fmt: skip
    assert (rows['labels'][0] == -1).all() and not rows['scores'][0].any() and not rows['boxes'][0].any()
    for image in (1, 2):
        scores, labels = np.asarray(rows['scores'][image]), np.asarray(rows['labels'][image])
        found = labels >= 0
        assert found.any() and (scores[found] > 0.5).all() and (np.diff(scores) <= 0).all()
        probability = 1 / (1 + np.exp(-batch['image'][image].reshape(16, -1)[:, 5:] * np.asarray(params['logits'])[1:]))
        assert scores[0] == pytest.approx(probability.max(), rel=1e-6)
        assert labels[0] == np.unravel_index(probability.argmax(), probability.shape)[1]
        assert (rows['boxes'][image] >= 0).all() and (rows['boxes'][image] <= 1).all()


def test_a_loss_and_a_head_of_different_scores_are_refused():
    with pytest.raises(UserError, match=r"detection.classification='softmax' trains .* softmax, .* by sigmoid"):
        DetectionTask(model=Linear('sigmoid'), preprocess=None, loss_spec=LOSSES['torchvision'], nms=TORCHVISION_NMS)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'classification': 'hinge'}, r"detection.classification='hinge' is unknown. Known: focal, sigmoid, softmax"),
        ({'alpha': 2.0}, r'detection.alpha=2.0 must be in \[0, 1\]'),
        ({'match_threshold': 0.0}, r'detection.match_threshold=0.0 must be in \(0, 1\]'),
        ({'localization_delta': 0.0}, r'detection.localization_delta=0.0 must be positive'),
        ({'min_negatives': 3}, r'detection.min_negatives=3 needs detection.negatives_per_positive'),
    ],
)
def test_wrong_fields_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        DetectionLossSpec(**fields)


def test_the_log_has_every_metric_that_it_names():
    task, batch = make_task(), make_batch(8)
    said = task.training_metrics(gradient_on(1, batch, task)[2])
    assert set(said) == {metric.name for metric in task.logged}
    assert headline_metric(task).written(21.3) == '21.30 %'
