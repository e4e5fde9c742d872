"""Detection as a task: the boxes of objects and their classes, the loss, and the metrics.

Paper: Liu et al., 1512.02325 section 2.2 (matching, smooth L1, hard negatives); Lin et al., 1708.02002 (focal loss).
Reference: tensorflow/models research/object_detection/{meta_architectures/ssd_meta_arch,core/losses}.py;
torchvision/models/detection/ssd.py; houqb/ssdlite-pytorch-mobilenext ssd/modeling/box_head/loss.py.
Differs: TensorFlow mines hard negatives among the boxes that suppression at an intersection over union of 0.99 leaves,
here among all anchors; and the losses are divided by the matches of the global batch, not of each device's.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from mobilenets_jax.boxes.coder import BoxCoder
from mobilenets_jax.boxes.matching import match
from mobilenets_jax.boxes.postprocessing import postprocess
from mobilenets_jax.boxes.suppression import Detections, NmsSpec
from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.training.forward import forward_in_evaluation, forward_in_training
from mobilenets_jax.training.frozen import NOTHING, Frozen
from mobilenets_jax.training.parallel import AXIS_NAME
from mobilenets_jax.training.task import Metric, Task

PyTree = Any

# What makes scores out of logits that were trained by each loss of the classes.
CLASSIFICATIONS = {'focal': 'sigmoid', 'sigmoid': 'sigmoid', 'softmax': 'softmax'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectionLossSpec:
    """Which anchors are trained for what; the defaults are those of TensorFlow's MobileNetV3 detectors.

    Attributes:
        classification: the cross-entropy of the classes: 'focal' and 'sigmoid' take each class by itself, 'softmax' all
            classes and the background together.
        alpha: of the focal loss, the weight of positive targets, in [0, 1]; negative targets have 1 - alpha.
        gamma: of the focal loss, the exponent of (1 - probability of the target).
        background_target: with 'focal' and 'sigmoid', whether the background is learnt like a class, or is nowhere.
        negatives_per_positive: so many anchors without a box count for each with one, those of each image with the
            highest loss; None: all of them.
        min_negatives: of an image, where `negatives_per_positive` gives fewer. With 0 an image without boxes has no
            gradient, as in torchvision.
        localization_delta: where smooth L1 goes over from a square to a line.
        class_weight: of the classes in the loss.
        box_weight: of the boxes in the loss. TensorFlow's 'normalize_loc_loss_by_codesize' is 1/4.
        match_threshold, last_wins: see `boxes.matching.match`.
        per_replica_normalization: whether each device divides by its own matches, as the papers' code does; then the
            gradient depends on how images are spread.
    """

    classification: str = 'focal'
    alpha: float = 0.75
    gamma: float = 2.0
    background_target: bool = False
    negatives_per_positive: float | None = None
    min_negatives: int = 0
    localization_delta: float = 1.0
    class_weight: float = 1.0
    box_weight: float = 0.25
    match_threshold: float = 0.5
    last_wins: bool = False
    per_replica_normalization: bool = False

    def __post_init__(self):
        check_choice('detection.classification', self.classification, CLASSIFICATIONS)
        self._check('alpha', 0 <= self.alpha <= 1, 'must be in [0, 1]')
        self._check('localization_delta', self.localization_delta > 0, 'must be positive')
        self._check('match_threshold', 0 < self.match_threshold <= 1, 'must be in (0, 1]')
        for name in ('gamma', 'min_negatives', 'class_weight', 'box_weight'):
            self._check(name, getattr(self, name) >= 0, 'must not be negative')
        negatives = self.negatives_per_positive
        mines = negatives is not None
        self._check('negatives_per_positive', negatives is None or negatives >= 0, 'must not be negative')
        self._check('min_negatives', mines or not self.min_negatives, 'needs detection.negatives_per_positive')

    def _check(self, name: str, fits: bool, requirement: str) -> None:
        check(fits, f'detection.{name}', getattr(self, name), requirement)


_HARD_NEGATIVES: dict[str, Any] = {'negatives_per_positive': 3.0, 'box_weight': 1.0}
# 'tf' is MobileNetV3's, 'mobilenext' MobileNeXt's on COCO; on Pascal VOC that was trained by torchvision's loss. In its
# authors' code a column is never right, too, the last one.
LOSSES = {
    'tf': DetectionLossSpec(),
    'tf_v2': DetectionLossSpec(classification='sigmoid', background_target=True, min_negatives=3, **_HARD_NEGATIVES),
    'torchvision': DetectionLossSpec(classification='softmax', last_wins=True, **_HARD_NEGATIVES),
    'mobilenext': DetectionLossSpec(alpha=0.25, class_weight=5.0, box_weight=1.0, last_wins=True),
}


class Targets(NamedTuple):
    """What the anchors of images are trained for.

    Attributes:
        matched: which anchors have a box, bool [N, A].
        columns: of the logits, int32 [N, A]: 0 for the background, class + 1.
        codes: of the matched boxes, float32 [N, A, 4]; without a meaning for anchors without a match.
    """

    matched: jax.Array
    columns: jax.Array
    codes: jax.Array


def detection_targets(
    batch: Mapping[str, jax.Array], anchors: jax.Array, coder: BoxCoder, spec: DetectionLossSpec
) -> Targets:
    """The targets of a batch.

    Args:
        batch: 'boxes' in corners, [N, M, 4], 'labels' int32 [N, M] and 'valid' bool [N, M].
        anchors: with their centres, [A, 4].
        coder: how boxes are coded.
        spec: how they are matched.
    """

    def of_image(boxes, labels, valid):
        matches = match(boxes, valid, anchors, spec.match_threshold, spec.last_wins)
        matched, chosen = matches >= 0, jnp.maximum(matches, 0)
        if not boxes.shape[0]:
            return Targets(matched, matches + 1, jnp.zeros((anchors.shape[0], 4)))
        return Targets(matched, jnp.where(matched, labels[chosen] + 1, 0), coder.encode(boxes[chosen], anchors))

    return jax.vmap(of_image)(batch['boxes'], batch['labels'], batch['valid'])


def detection_losses(
    outputs: Mapping[str, jax.Array], targets: Targets, spec: DetectionLossSpec
) -> tuple[jax.Array, jax.Array]:
    """The sums of the losses of the classes and of the boxes of each image, both [N], weighted but not divided.

    Args:
        outputs: 'codes' [N, A, 4] and 'logits' [N, A, 1 + classes], whose first column is the background.
        targets: of the same anchors.
        spec: which losses.
    """
    class_losses = _class_losses(outputs['logits'], targets.columns, spec)
    if spec.negatives_per_positive is not None:
        trained = _trained(class_losses, targets.matched, spec.negatives_per_positive, spec.min_negatives)
        class_losses = jnp.where(trained, class_losses, 0)
    box_losses = optax.huber_loss(outputs['codes'], targets.codes, delta=spec.localization_delta).sum(axis=-1)
    box_losses = jnp.where(targets.matched, box_losses, 0)
    return spec.class_weight * class_losses.sum(axis=1), spec.box_weight * box_losses.sum(axis=1)


def _class_losses(logits: jax.Array, columns: jax.Array, spec: DetectionLossSpec) -> jax.Array:
    """Of each anchor, [N, A]."""
    if spec.classification == 'softmax':
        return optax.softmax_cross_entropy_with_integer_labels(logits, columns)
    numbers = jnp.arange(logits.shape[-1])
    there = columns[..., None] == numbers
    if not spec.background_target:
        there &= numbers > 0
    wrong = jnp.where(there, -logits, logits)  # the logit of being wrong; in this form nothing overflows
    losses = jax.nn.softplus(wrong)
    if spec.classification == 'focal':
        losses *= jnp.where(there, spec.alpha, 1 - spec.alpha) * jnp.exp(-spec.gamma * jax.nn.softplus(-wrong))
    return losses.sum(axis=-1)


def _trained(class_losses: jax.Array, matched: jax.Array, per_positive: float, least: int) -> jax.Array:
    """Which anchors count in the loss of the classes, bool [N, A]: those with a box, and the hard negatives."""
    hardness = jnp.where(matched, -jnp.inf, lax.stop_gradient(class_losses))
    rank = jnp.argsort(jnp.argsort(-hardness, axis=1), axis=1)
    allowed = jnp.maximum(per_positive * matched.sum(axis=1), least)
    return matched | (rank < allowed[:, None])


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectionTask(Task):
    """A batch has the field 'image' and, in training, 'boxes', 'labels' and 'valid' (`detection_targets`).

    Attributes:
        model: of `mobilenets_jax.heads`: a detector.
        preprocess: maps (batch, train=...) to normalised images, float32 [n, H, W, 3], on the device.
        loss_spec: which loss.
        nms: how detections are chosen in evaluation.
        frozen: the modules that run as in evaluation while the others train.
    """

    model: Any
    preprocess: Callable[..., jax.Array]
    loss_spec: DetectionLossSpec
    nms: NmsSpec
    frozen: Frozen = NOTHING

    logged: ClassVar[tuple[Metric, ...]] = (
        Metric(name='loss', label='loss', decimals=4),
        Metric(name='class_loss', label='class loss', decimals=4),
        Metric(name='box_loss', label='box loss', decimals=4),
        Metric(name='matched', label='matched/image', decimals=1),
        Metric(name='boxes', label='boxes/image', decimals=1),
        Metric(name='empty', label='without boxes', unit='%', decimals=1),
    )
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name='ap', label='AP', unit='%'),
        Metric(name='ap50', label='AP50', unit='%'),
        Metric(name='ap75', label='AP75', unit='%'),
        Metric(name='ap_small', label='AP small', unit='%', in_progress=False),
        Metric(name='ap_medium', label='AP medium', unit='%', in_progress=False),
        Metric(name='ap_large', label='AP large', unit='%', in_progress=False),
        Metric(name='ar1', label='AR1', unit='%', in_progress=False),
        Metric(name='ar10', label='AR10', unit='%', in_progress=False),
        Metric(name='ar100', label='AR100', unit='%'),
        Metric(name='ar_small', label='AR small', unit='%', in_progress=False),
        Metric(name='ar_medium', label='AR medium', unit='%', in_progress=False),
        Metric(name='ar_large', label='AR large', unit='%', in_progress=False),
        Metric(name='voc07_ap50', label='VOC07 AP50', unit='%', in_progress=False),
        Metric(name='voc_ap50', label='VOC AP50', unit='%', in_progress=False),
    )
    headline: ClassVar[str] = 'ap'

    def __post_init__(self):
        scores, made = CLASSIFICATIONS[self.loss_spec.classification], self.model.head_spec.scores
        check(
            scores == made,
            'detection.classification',
            self.loss_spec.classification,
            f'trains logits whose scores are their {scores}, and the head makes scores by {made}',
        )

    def loss(
        self, params: PyTree, batch_stats: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """See `Task.loss`: of the global batch, the sum over all anchors that count, divided by the matched ones."""
        images = self.preprocess(batch, train=True)
        outputs, updated = forward_in_training(self.model, params, batch_stats, images, key, self.frozen)
        anchors = self.model.anchors(images.shape[1:3])
        targets = detection_targets(batch, anchors, self.model.head_spec.coder, self.loss_spec)
        matched = targets.matched.sum().astype(jnp.float32)
        divisor = self._divisor(matched)
        class_loss, box_loss = (sums.sum() / divisor for sums in detection_losses(outputs, targets, self.loss_spec))
        boxes = batch['valid'].sum(axis=1)
        sums = {
            'loss': class_loss + box_loss,
            'class_loss': class_loss,
            'box_loss': box_loss,
            'parts': jnp.ones(()),  # of this device; each part has its own loss
            'matched': matched,
            'boxes': boxes.sum(),
            'empty': (boxes == 0).sum(),
            'images': jnp.asarray(boxes.size),
        }
        return class_loss + box_loss, (updated, sums)

    def _divisor(self, matched: jax.Array) -> jax.Array:
        """What this device's sums are divided by, at least 1 over the devices.

        The mean of the gradients over the devices is then that of the global batch, however its boxes are spread; if it
        has none, too.
        """
        if self.loss_spec.per_replica_normalization:
            return jnp.maximum(matched, 1)
        return jnp.maximum(lax.psum(matched, AXIS_NAME), 1) / lax.psum(1, AXIS_NAME)

    def evaluate(self, params: PyTree, batch_stats: PyTree, batch: PyTree) -> tuple[dict, dict[str, jax.Array]]:
        """See `Task.evaluate`.

        Returns:
            No sums. Rows: 'boxes' float32 [n, K, 4], 'scores' float32 [n, K] and 'labels' int32 [n, K] of `Detections`.
        """
        images = self.preprocess(batch, train=False)
        return self.measure(forward_in_evaluation(self.model, params, batch_stats, images), batch)

    def measure(self, outputs: Mapping[str, jax.Array], batch: PyTree) -> tuple[dict, dict[str, jax.Array]]:
        """See `Task.measure`; the outputs are codes and logits of anchors."""
        return {}, self.detections(outputs, batch['image'].shape[1:3])._asdict()

    def detections(self, outputs: Mapping[str, jax.Array], image_size: tuple[int, int]) -> Detections:
        """The detections of each image; see `boxes.postprocessing.postprocess`.

        Args:
            outputs: of the model.
            image_size: height and width of the images that it was applied to.
        """
        head = self.model.head_spec
        return postprocess(outputs, self.model.anchors(image_size), head.coder, head.scores, self.nms)

    def training_metrics(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The mean losses of the steps; and of an image the matched anchors and the boxes, padding not counted."""
        losses = {name: sums[name] / sums['parts'] for name in ('loss', 'class_loss', 'box_loss')}
        counts = {name: sums[name] / sums['images'] for name in ('matched', 'boxes')}
        return {**losses, **counts, 'empty': 100 * sums['empty'] / sums['images']}
