"""Semantic segmentation as a task: a class for every pixel, its loss, and its metrics.

Paper: Chen et al., 1706.05587 section 4 (the loss at the size of the labels; several scales and flips in evaluation).
Reference: tensorflow/models research/deeplab/{train_utils,model}.py.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from mobilenets_jax.errors import check
from mobilenets_jax.ops import resize_bilinear
from mobilenets_jax.training.forward import forward_in_evaluation, forward_in_training
from mobilenets_jax.training.frozen import NOTHING, Frozen
from mobilenets_jax.training.parallel import AXIS_NAME
from mobilenets_jax.training.task import Metric, Task

PyTree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentationTask(Task):
    """Softmax cross-entropy of pixels; a batch has the fields 'image', 'segmentation' and, in evaluation, 'mask'.

    'segmentation' is uint8 [n, H, W]: a class, or `ignored`. Where evaluation images were resized, 'rows' int32 [n, H]
    and 'columns' int32 [n, W] say which of their pixels is nearest to each label.

    Attributes:
        model: of `mobilenets_jax.heads`.
        preprocess: maps (batch, train=...) to normalised images, float32 [n, H, W, 3], on the device.
        ignored: the label of pixels that are neither learnt nor measured; no class.
        class_weights: of the training loss, by class: how much its pixels weigh in the mean; (): all the same.
        eval_scales: in evaluation the probabilities are the mean over the images scaled by each of these.
        eval_flip: whether each is also evaluated mirrored left to right.
        frozen: the modules that run as in evaluation while the others train.
    """

    model: Any
    preprocess: Callable[..., jax.Array]
    ignored: int = 255
    class_weights: tuple[float, ...] = ()
    eval_scales: tuple[float, ...] = (1.0,)
    eval_flip: bool = False
    frozen: Frozen = NOTHING

    logged: ClassVar[tuple[Metric, ...]] = (
        Metric(name='loss', label='loss', decimals=4),
        Metric(name='accuracy', label='pixel accuracy', unit='%'),
    )
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name='miou', label='mIoU', unit='%'),
        Metric(name='pixel_accuracy', label='pixel accuracy', unit='%', in_training='accuracy'),
        Metric(name='loss', label='loss', decimals=4, higher_is_better=False, in_training='loss'),
    )
    headline: ClassVar[str] = 'miou'

    def __post_init__(self):
        weights, classes = self.class_weights, self.model.num_classes
        fits = not weights or (len(weights) == classes and min(weights) >= 0 < max(weights))
        check(fits, 'segmentation.class_weights', weights, f'must be {classes} numbers, none negative and not all zero')
        fits = bool(self.eval_scales) and all(scale > 0 for scale in self.eval_scales)
        check(fits, 'segmentation.eval_scales', self.eval_scales, 'must be positive numbers, at least one')

    def loss(
        self, params: PyTree, batch_stats: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """See `Task.loss`: the weighted mean over all pixels of the global batch that are not ignored."""
        images, labels = self.preprocess(batch, train=True), batch['segmentation'].astype(jnp.int32)
        logits, updated = forward_in_training(self.model, params, batch_stats, images, key, self.frozen)
        valid = labels != self.ignored
        losses, weights = self._cross_entropy(logits, labels), valid.astype(jnp.float32)
        if self.class_weights:
            weights *= jnp.asarray(self.class_weights)[jnp.where(valid, labels, 0)]
        loss, weight = (losses * weights).sum(), weights.sum()
        # The mean of the gradients over the devices is that of the global batch, however its valid pixels are spread.
        mean_weight = lax.pmean(weight, AXIS_NAME)
        mean = loss / jnp.where(mean_weight > 0, mean_weight, 1)
        sums = {
            'loss': loss,
            'weight': weight,
            'correct': (valid & (jnp.argmax(logits, axis=-1) == labels)).sum().astype(jnp.float32),
            'count': valid.sum().astype(jnp.float32),  # a batch may have more pixels than an int32 counts
        }
        return mean, (updated, sums)

    def evaluate(self, params: PyTree, batch_stats: PyTree, batch: PyTree) -> tuple[dict, dict[str, jax.Array]]:
        """See `Task.evaluate`.

        Returns:
            No sums. Rows: 'confusion', int32 [n, classes, classes], how many pixels of each class (rows) were taken for
            each (columns); and 'loss' [n], the sum of the cross-entropy over them.
        """
        images = self.preprocess(batch, train=False)
        return self.measure(self.log_probabilities(params, batch_stats, images), batch)

    def measure(self, outputs: jax.Array, batch: PyTree) -> tuple[dict, dict[str, jax.Array]]:
        """See `Task.measure`; the outputs are logits of each pixel [n, H, W, classes], such as log probabilities."""
        labels = batch['segmentation'].astype(jnp.int32)
        if 'rows' in batch:  # the images were resized, the labels were not
            at_labels = jax.vmap(lambda values, rows, columns: values[rows][:, columns])
            outputs = at_labels(outputs, batch['rows'], batch['columns'])
        losses = self._cross_entropy(outputs, labels)
        predicted = jnp.argmax(outputs, axis=-1)
        confused = lax.map(lambda pair: confusion(pair[0], pair[1], outputs.shape[-1]), (labels, predicted))
        return {}, {'confusion': confused, 'loss': losses.sum(axis=(1, 2))}

    def log_probabilities(self, params: PyTree, batch_stats: PyTree, images: jax.Array) -> jax.Array:
        """The logarithm of each class's probability for each pixel, [n, H, W, classes], over all scales and flips.

        Args:
            params: parameters.
            batch_stats: running statistics.
            images: normalised, float [n, H, W, 3].
        """
        resize = functools.partial(resize_bilinear, align_corners=self.model.head_spec.align_corners)
        views = []
        for scale in self.eval_scales:
            scaled = resize(images, tuple(int((side - 1) * scale + 1) for side in images.shape[1:3]))
            for mirrored in (False, True) if self.eval_flip else (False,):
                view = scaled[:, :, ::-1] if mirrored else scaled
                logits = forward_in_evaluation(self.model, params, batch_stats, view)
                logits = logits[:, :, ::-1] if mirrored else logits
                views.append(jax.nn.log_softmax(resize(logits, images.shape[1:3])))
        return views[0] if len(views) == 1 else jax.nn.logsumexp(jnp.stack(views), axis=0) - math.log(len(views))

    def training_metrics(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The weighted mean loss of a pixel, and the share of pixels whose likeliest class is theirs, in percent."""
        weight, count = sums['weight'] or 1, max(sums['count'], 1)
        return {'loss': sums['loss'] / weight, 'accuracy': 100 * sums['correct'] / count}

    def _cross_entropy(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Of each pixel, [n, H, W]; 0 where it is ignored."""
        valid = labels != self.ignored
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(valid, labels, 0))
        return jnp.where(valid, losses, 0.0)


def confusion(labels: jax.Array, predicted: jax.Array, num_classes: int) -> jax.Array:
    """How many pixels of each class (rows) were taken for each (columns), int32 [num_classes, num_classes].

    Args:
        labels: int [H, W]; values that are no class are left out. At most 2^24 pixels, which float32 counts exactly.
        predicted: int [H, W].
        num_classes: how many there are.
    """
    check(labels.size <= 1 << 24, 'evaluation image', labels.shape, 'has more pixels than are counted exactly')
    truth, found = (jax.nn.one_hot(classes.ravel(), num_classes, dtype=jnp.float32) for classes in (labels, predicted))
    return jnp.einsum('pt,pf->tf', truth, found, precision=lax.Precision.HIGHEST).astype(jnp.int32)
