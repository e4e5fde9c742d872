"""Image classification as a task: the fields of a batch that it reads, its loss, and its metrics.

Paper: Simonyan and Zisserman, 1409.1556 section 3.2 (in evaluation the softmax of an image and its mirror image are
    averaged; so the mean is that of probabilities, not of logits).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mobilenets_jax.errors import check
from mobilenets_jax.training.forward import forward_in_evaluation, forward_in_training
from mobilenets_jax.training.frozen import NOTHING, Frozen
from mobilenets_jax.training.task import Metric, Task

PyTree = Any
Arrays = dict[str, jax.Array]


class Examples(NamedTuple):
    """A batch as a network is trained on it.

    Attributes:
        images: normalised, augmented and mixed, float32 [n, H, W, 3].
        labels: int32 [n].
        other_labels: of what was mixed in, int32 [n]; None: nothing is mixed.
        share: the part of each image that is its own, float32 [n]; likewise.
    """

    images: jax.Array
    labels: jax.Array
    other_labels: jax.Array | None = None
    share: jax.Array | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationTask(Task):
    """Softmax cross-entropy over a batch with the fields 'image', 'label' and, in evaluation, 'mask'.

    Attributes:
        model: a module with the call contract of `mobilenets_jax.models`.
        preprocess: maps (batch, train=...) to normalised images, float32 [n, H, W, 3], on the device.
        mix: maps (batch, preprocessed images) of a training step to mixed images, the labels mixed in, int32 [n], and
            the share of each image that is its own, float32 [n]; None: nothing is mixed.
        label_smoothing: the share of the target that is spread evenly over all classes, in [0, 1).
        eval_flip: whether in evaluation the probabilities are the mean over each image and its mirror image.
        frozen: the modules that run as in evaluation while the others train.
    """

    logged: ClassVar[tuple[Metric, ...]] = (
        Metric(name='loss', label='loss', decimals=4, higher_is_better=False),
        Metric(name='accuracy', label='accuracy', unit='%'),
    )
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name='top1', label='top-1', unit='%', in_training='accuracy'),
        Metric(name='top5', label='top-5', unit='%'),
        Metric(name='loss', label='loss', decimals=4, higher_is_better=False),
    )
    headline: ClassVar[str] = 'top1'

    model: Any
    preprocess: Callable[..., jax.Array]
    mix: Callable[[Any, jax.Array], tuple[jax.Array, jax.Array, jax.Array]] | None = None
    label_smoothing: float = 0.0
    eval_flip: bool = False
    frozen: Frozen = NOTHING

    def __post_init__(self):
        check(0.0 <= self.label_smoothing < 1.0, 'label_smoothing', self.label_smoothing, 'must be in [0, 1)')

    def loss(self, params: PyTree, batch_stats: PyTree, batch: PyTree, key: jax.Array) -> tuple[jax.Array, Any]:
        """The mean training loss of one device's batch.

        Args:
            params: trainable parameters.
            batch_stats: running statistics before the step.
            batch: 'image' [n, H, W, 3], 'label' int32 [n], and what `preprocess` reads besides.
            key: for dropout; differs between devices and steps.

        Returns:
            The loss, and (updated statistics, sums over the examples: of the loss, the hits, and their count).
        """
        examples = self.examples(batch)
        logits, updated = forward_in_training(self.model, params, batch_stats, examples.images, key, self.frozen)
        losses = self.losses(logits, examples)
        sums = self.sums(logits, examples, losses)
        return losses.mean(), (updated, sums)

    def examples(self, batch: PyTree) -> Examples:
        """What a step makes of one device's batch, see `loss`."""
        images, labels = self.preprocess(batch, train=True), batch['label']
        if not self.mix:
            return Examples(images, labels)
        images, other_labels, share = self.mix(batch, images)
        return Examples(images, labels, other_labels, share)

    def losses(self, logits: jax.Array, examples: Examples) -> jax.Array:
        """The training loss of each example, [n], by the network's logits [n, classes]."""
        losses = smoothed_cross_entropy(logits, examples.labels, self.label_smoothing)
        if examples.share is None or examples.other_labels is None:
            return losses
        share, others = examples.share, smoothed_cross_entropy(logits, examples.other_labels, self.label_smoothing)
        return share * losses + (1 - share) * others  # cross-entropy is linear in the targets

    def sums(self, logits: jax.Array, examples: Examples, losses: jax.Array) -> Arrays:
        """Sums over the examples: losses [n], hits (of mixed images those of the larger part), and their count."""
        labels = examples.labels
        if examples.share is not None and examples.other_labels is not None:
            labels = jnp.where(examples.share < 0.5, examples.other_labels, labels)
        return {
            'loss': losses.sum(),
            'correct': (label_rank(logits, labels) < 1).sum(),
            'count': jnp.asarray(labels.size),
        }

    def evaluate(self, params: PyTree, batch_stats: PyTree, batch: PyTree) -> tuple[Arrays, Arrays]:
        """Measures one device's batch.

        Returns:
            Sums over the real examples (mask 1): loss, top-1 and top-5 hits, and their count. And the rows of all
            examples, each [n]: 'label', 'predicted' (the likeliest class), its 'probability', and 'top1' and 'top5',
            whether the label is the likeliest class or one of the five likeliest.
        """
        images = self.preprocess(batch, train=False)
        logits = forward_in_evaluation(self.model, params, batch_stats, images)
        if self.eval_flip:
            mirrored = forward_in_evaluation(self.model, params, batch_stats, images[:, :, ::-1])
            logits = jnp.logaddexp(jax.nn.log_softmax(logits), jax.nn.log_softmax(mirrored)) - math.log(2)
        return self.measure(logits, batch)

    def measure(self, outputs: jax.Array, batch: PyTree) -> tuple[Arrays, Arrays]:
        """See `Task.measure`; the outputs are logits [n, classes]."""
        logits = outputs
        labels, real = batch['label'], batch['mask'] > 0
        rank = label_rank(logits, labels)
        losses = smoothed_cross_entropy(logits, labels, 0.0)
        sums = {
            'loss': jnp.where(real, losses, 0.0).sum(),
            'top1': (real & (rank < 1)).sum(),
            'top5': (real & (rank < 5)).sum(),
            'count': real.sum(),
        }
        rows = {
            'label': labels,
            'predicted': jnp.argmax(jnp.where(jnp.isnan(logits), -jnp.inf, logits), axis=-1),
            'probability': jax.nn.softmax(logits).max(axis=-1),
            'top1': rank < 1,
            'top5': rank < 5,
        }
        return sums, rows

    def training_metrics(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The mean loss, and the share of the examples whose likeliest class is the label, in percent."""
        return {'loss': sums['loss'] / sums['count'], 'accuracy': 100 * sums['correct'] / sums['count']}


def smoothed_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Cross-entropy of each example, [n], against targets that spread `smoothing` over all classes.

    Args:
        logits: float32 [n, classes].
        labels: int32 [n].
        smoothing: in [0, 1).
    """
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def label_rank(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The number of classes ranked before the label, [n]: 0 is a top-1 hit, below 5 a top-5 hit.

    Classes with equal logits are ranked by their index, as in `argmax`. A label whose logit is not a number is
    ranked last.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)  # (n, 1)
    earlier = jnp.arange(logits.shape[-1]) < labels[:, None]
    before = (logits > own) | ((logits == own) & earlier)
    return jnp.where(jnp.isnan(own[:, 0]), logits.shape[-1], before.sum(axis=-1))
