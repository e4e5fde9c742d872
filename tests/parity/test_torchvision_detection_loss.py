"""Anchors, matching, losses with gradients and detections of torchvision's SSDLite, given the outputs of a head."""

import types

import jax
import numpy as np
import pytest

from mobilenets_jax.boxes.anchors import make_anchors, torchvision_anchors
from mobilenets_jax.boxes.coder import TORCHVISION_MAX_LOG_SIZE, BoxCoder
from mobilenets_jax.boxes.geometry import iou, to_corners
from mobilenets_jax.boxes.matching import match
from mobilenets_jax.boxes.postprocessing import postprocess
from mobilenets_jax.boxes.suppression import TORCHVISION_NMS
from mobilenets_jax.training.detection import LOSSES, DetectionTask
from mobilenets_jax.training.parallel import AXIS_NAME

pytestmark = pytest.mark.slow

SIZE, CLASSES, MAX_BOXES = 320, 5, 9
MAPS = [(side, side) for side in (20, 10, 5, 3, 2, 1)]
ANCHORS = make_anchors(torchvision_anchors(), MAPS, (SIZE, SIZE))
CODER = BoxCoder(max_log_size=TORCHVISION_MAX_LOG_SIZE)
SWAPPED = [1, 0, 3, 2]  # x before y, in boxes and in codes


@pytest.fixture(scope='module')
def network(torch, torchvision):
    make = torchvision.models.detection.ssdlite320_mobilenet_v3_large
    return make(weights=None, weights_backbone=None, num_classes=CLASSES + 1).eval()


@pytest.fixture(scope='module')
def their_anchors(torch, torchvision, network):
    """In pixels, [A, 4] [xmin, ymin, xmax, ymax]."""
    images = torchvision.models.detection.image_list.ImageList(torch.zeros(1, 3, SIZE, SIZE), [(SIZE, SIZE)])
    return network.anchor_generator(images, [torch.zeros(1, 1, *size) for size in MAPS])[0]


def random_boxes(generator, count):
    """Boxes of all sizes; each overlaps one anchor most.

    A small box lies in several anchors of one size and overlaps all of them by the same: which of them it overlaps most
    is then a matter of rounding, in fractions and in pixels.
    """
    side = np.exp(generator.uniform(np.log(0.02), np.log(0.9), (20 * count, 2)))
    low = generator.uniform(0, 1 - side)
    boxes = np.concatenate([low, low + side], axis=-1).astype(np.float32)
    second, first = np.sort(jax.jit(iou)(boxes, np.asarray(to_corners(ANCHORS))), axis=1)[:, -2:].T
    boxes = boxes[first - second > 1e-5]
    assert len(boxes) >= count
    return boxes[:count]


def make_batch(counts, seed=0):
    """Boxes, among them one twice, and random outputs of a head."""
    generator = np.random.default_rng(seed)
    n = len(counts)
    boxes = random_boxes(generator, n * MAX_BOXES).reshape(n, MAX_BOXES, 4)
    boxes[:, 2] = boxes[:, 1]
    valid = np.arange(MAX_BOXES) < np.asarray(counts)[:, None]
    outputs = {
        'codes': generator.normal(0, 2, (n, len(ANCHORS), 4)).astype(np.float32),
        'logits': generator.normal(0, 2, (n, len(ANCHORS), CLASSES + 1)).astype(np.float32),
    }
    batch = {
        'image': np.zeros((n, SIZE, SIZE, 3), np.float32),
        'boxes': np.where(valid[..., None], boxes, [0, 0, 1, 1]).astype(np.float32),
        'labels': np.where(valid, generator.integers(0, CLASSES, valid.shape), 0).astype(np.int32),
        'valid': valid,
    }
    return batch, outputs


def their_targets(torch, batch):
    return [
        {
            'boxes': torch.from_numpy(boxes[valid][:, SWAPPED] * np.float32(SIZE)),
            'labels': torch.from_numpy(labels[valid].astype(np.int64) + 1),
        }
        for boxes, labels, valid in zip(batch['boxes'], batch['labels'], batch['valid'], strict=True)
    ]


def their_matches(torch, torchvision, network, their_anchors, targets):
    """As in `SSD.forward`."""
    none = torch.full((len(their_anchors),), -1, dtype=torch.int64)
    overlaps = [torchvision.ops.boxes.box_iou(target['boxes'], their_anchors) for target in targets]
    return [network.proposal_matcher(overlap) if len(overlap) else none for overlap in overlaps]


def test_same_anchors(their_anchors):
    np.testing.assert_allclose(to_corners(ANCHORS)[:, SWAPPED], their_anchors.numpy() / SIZE, atol=1e-6)


def test_same_matches(torch, torchvision, network, their_anchors):
    batch, _ = make_batch(np.arange(60) % (MAX_BOXES + 1))
    matcher = jax.jit(jax.vmap(lambda boxes, valid: match(boxes, valid, ANCHORS, last_wins=True)))
    found = np.asarray(matcher(batch['boxes'], batch['valid']))
    expected = their_matches(torch, torchvision, network, their_anchors, their_targets(torch, batch))
    np.testing.assert_array_equal(found, np.stack([matches.numpy() for matches in expected]))
    assert (found.max(axis=1) >= 0).tolist() == (np.arange(60) % (MAX_BOXES + 1) > 0).tolist()


class Outputs:
    """A detector whose parameters are its outputs, so that the gradient is that of the outputs."""

    head_spec = types.SimpleNamespace(coder=CODER, scores='softmax')

    def anchors(self, image_size):
        return ANCHORS

    def apply(self, variables, images, train, **kwargs):
        return (variables['params'], {}), {}


@pytest.mark.parametrize('counts', [(3, 1, 9, 5), (4, 0, 0, 2), (0, 0)], ids=str)
def test_same_loss_and_gradient(torch, torchvision, network, their_anchors, counts):
    batch, outputs = make_batch(counts, seed=1)
    task = DetectionTask(
        model=Outputs(),
        preprocess=lambda batch, train: batch['image'],
        loss_spec=LOSSES['torchvision'],
        nms=TORCHVISION_NMS,
    )

    def loss(outputs):
        return task.loss(outputs, {}, batch, jax.random.key(0))

    mapped = jax.vmap(jax.value_and_grad(loss, has_aux=True), axis_name=AXIS_NAME)
    (_, (_, sums)), gradient = jax.jit(mapped)(jax.tree.map(lambda leaf: leaf[None], outputs))

    codes = torch.from_numpy(outputs['codes'][..., SWAPPED].copy()).requires_grad_()
    logits = torch.from_numpy(outputs['logits']).requires_grad_()
    targets = their_targets(torch, batch)
    losses = network.compute_loss(
        targets,
        {'bbox_regression': codes, 'cls_logits': logits},
        [their_anchors] * len(counts),
        their_matches(torch, torchvision, network, their_anchors, targets),
    )
    assert float(sums['class_loss'][0]) == pytest.approx(losses['classification'].item(), rel=1e-4)
    assert float(sums['box_loss'][0]) == pytest.approx(losses['bbox_regression'].item(), rel=1e-4)
    assert (float(sums['class_loss'][0]) > 1) == any(counts)
    sum(losses.values()).backward()
    for found, expected in (
        (gradient['codes'][0][..., SWAPPED], codes.grad.numpy()),
        (gradient['logits'][0], logits.grad.numpy()),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * max(np.abs(expected).max(), 1e-6))


def greedy_nms(torch, boxes, scores, iou_threshold):
    """What torchvision's compiled operator does, which CPUs' builds lack."""
    box_iou = pytest.importorskip('torchvision').ops.boxes.box_iou
    order, kept = scores.argsort(descending=True, stable=True), []
    overlaps = box_iou(boxes, boxes) > iou_threshold
    for index in order.tolist():
        if not any(overlaps[index, other] for other in kept):
            kept.append(index)
    return torch.tensor(kept, dtype=torch.int64)


def test_same_detections(torch, torchvision, network, their_anchors, monkeypatch):
    monkeypatch.setattr(
        torchvision.ops.boxes, 'nms', lambda boxes, scores, threshold: greedy_nms(torch, boxes, scores, threshold)
    )
    _, outputs = make_batch((0, 0, 0), seed=2)
    outputs['logits'][0, :, 0] += 30  # nothing but background
    outputs['logits'][1, :, 0] += 14  # few scores above the threshold
    outputs['codes'][2] *= 5  # sides that are cut
    expected = network.postprocess_detections(
        {
            'bbox_regression': torch.from_numpy(outputs['codes'][..., SWAPPED].copy()),
            'cls_logits': torch.from_numpy(outputs['logits']),
        },
        [their_anchors] * 3,
        [(SIZE, SIZE)] * 3,
    )
    found = jax.jit(lambda outputs: postprocess(outputs, ANCHORS, CODER, 'softmax', TORCHVISION_NMS))(outputs)
    counts = []
    for image, theirs in enumerate(expected):
        count = len(theirs['scores'])
        counts.append(count)
        np.testing.assert_allclose(found.scores[image][:count], theirs['scores'], rtol=1e-4)
        np.testing.assert_array_equal(found.labels[image][:count], theirs['labels'] - 1)
        np.testing.assert_allclose(found.boxes[image][:count][:, SWAPPED], theirs['boxes'] / SIZE, atol=1e-4)
        assert (found.labels[image][count:] == -1).all()
    assert counts[0] == 0 and 0 < counts[1] < counts[2] == 300
