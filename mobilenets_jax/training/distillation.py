"""Distillation: a network learns from the labels and from what a trained classifier, its teacher, makes of the images.

Paper: Hinton et al., 1503.02531, section 2 (soft targets, temperature); Touvron et al., DeiT, 2012.12877, section 4
    (hard targets).
Differs: DeiT teaches a second head of its student, where this student has one head for both; its code divides the soft
    loss by the number of classes, too.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from mobilenets_jax.errors import UserError, check, check_choice
from mobilenets_jax.training.classification import ClassificationTask, smoothed_cross_entropy
from mobilenets_jax.training.forward import forward_in_evaluation, forward_in_training
from mobilenets_jax.training.task import Metric, Task

PyTree = Any

SOFT, HARD = TARGETS = ('soft', 'hard')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained classifier that does not learn.

    Attributes:
        model: a module with the call contract of `mobilenets_jax.models`.
        variables: 'params' and 'batch_stats'.
        to_input: from the images that the student takes, float [n, H, W, 3], to those that the teacher takes.
        source: what messages call it, e.g. "distillation.teacher='w.pth'".
        facts: what tells it from others, JSON-able: a hash of its variables, and the fields of its network.
    """

    model: Any
    variables: PyTree
    to_input: Callable[[jax.Array], jax.Array]
    source: str
    facts: Mapping[str, Any]

    def logits(self, images: jax.Array) -> jax.Array:
        """Of the student's images, as in evaluation and without a gradient, [n, classes]."""
        params, batch_stats = self.variables['params'], self.variables.get('batch_stats', {})
        return lax.stop_gradient(forward_in_evaluation(self.model, params, batch_stats, self.to_input(images)))

    def check(self, checkpoint: str, stored: Mapping[str, Any]) -> None:
        """Raises `UserError` if a checkpoint, as messages call it, was saved with the facts of another teacher."""
        different = [name for name, value in stored.items() if self.facts.get(name) != value]
        if different:
            raise UserError(
                f'{self.source} is not the teacher of {checkpoint}, from which it differs in {", ".join(different)}. '
                "Name that one (of a run a checkpoint's own folder, since the newest one changes), or give this run a "
                'workdir of its own.'
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistilledTask(Task):
    """Classification whose loss is `(1 - weight) * loss of the labels + weight * loss of the teacher's targets`.

    Mixed and erased images are the teacher's, too. It is measured as the classification is.

    Attributes:
        task: of the student.
        weight: in (0, 1].
        targets: 'soft': the teacher's probabilities, whose loss is T^2 * KL(teacher || student), both softened by the
            temperature T; 'hard': its likeliest class, whose loss is the cross-entropy.
        temperature: T, positive; 'hard' has none.
        teacher: needed by the loss alone.
    """

    logged: ClassVar = (
        *ClassificationTask.logged,
        Metric(name='agreement', label='as teacher', unit='%'),
    )
    metrics: ClassVar = ClassificationTask.metrics
    headline: ClassVar = ClassificationTask.headline

    task: ClassificationTask
    weight: float
    targets: str = SOFT
    temperature: float = 1.0
    teacher: Teacher | None = None

    def __post_init__(self):
        check(0.0 < self.weight <= 1.0, 'distillation.weight', self.weight, 'must be in (0, 1]')
        check_choice('distillation.targets', self.targets, TARGETS)
        check(self.temperature > 0, 'distillation.temperature', self.temperature, 'must be positive')

    def taught_by(self, teacher: Teacher) -> 'DistilledTask':
        """The same task with a teacher."""
        return dataclasses.replace(self, teacher=teacher)

    def loss(self, params: PyTree, batch_stats: PyTree, batch: PyTree, key: jax.Array) -> tuple[jax.Array, Any]:
        """The mean training loss of one device's batch.

        Args:
            params: of the student.
            batch_stats: as well.
            batch: of the classification.
            key: as well.

        Returns:
            As of the classification; its sums have in how many examples the likeliest class is the teacher's, too.
        """
        task, teacher = self.task, self.teacher
        assert teacher is not None, 'taught_by gives the teacher before a step is made'
        examples = task.examples(batch)
        logits, updated = forward_in_training(task.model, params, batch_stats, examples.images, key, task.frozen)
        taught = teacher.logits(examples.images).astype(logits.dtype)
        own = task.losses(logits, examples)
        losses = (1 - self.weight) * own + self.weight * self.losses_of_teacher(logits, taught)
        agreement = (jnp.argmax(logits, axis=-1) == jnp.argmax(taught, axis=-1)).sum()
        return losses.mean(), (updated, {**task.sums(logits, examples, losses), 'agreement': agreement})

    def losses_of_teacher(self, logits: jax.Array, taught: jax.Array) -> jax.Array:
        """The loss of each example by the teacher's targets alone, [n].

        Args:
            logits: of the student, float [n, classes].
            taught: of the teacher, likewise.
        """
        if self.targets == HARD:
            return smoothed_cross_entropy(logits, jnp.argmax(taught, axis=-1), 0.0)
        own, wanted = (jax.nn.log_softmax(values / self.temperature) for values in (logits, taught))
        return self.temperature**2 * optax.losses.kl_divergence_with_log_targets(own, wanted)

    def evaluate(self, params: PyTree, batch_stats: PyTree, batch: PyTree) -> tuple[dict[str, jax.Array], PyTree]:
        """See `ClassificationTask.evaluate`."""
        return self.task.evaluate(params, batch_stats, batch)

    def measure(self, outputs: jax.Array, batch: PyTree) -> tuple[dict[str, jax.Array], PyTree]:
        """See `ClassificationTask.measure`."""
        return self.task.measure(outputs, batch)

    def training_metrics(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Those of the classification, and the share of the examples whose likeliest class is the teacher's, in %."""
        return {**self.task.training_metrics(sums), 'agreement': 100 * sums['agreement'] / sums['count']}
