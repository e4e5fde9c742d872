"""What the training loop asks of a task, which alone knows its batches, its loss and its metrics.

The loop, the progress lines, the reports and the curves take every name, label, unit and number of decimals from here.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np

PyTree = Any
Sums = Mapping[str, Any]  # of scalars or arrays, added over devices, batches and steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that a task measures, and how it is written.

    Attributes:
        name: in `metrics.jsonl`, `summary.json` and the result of eval.py, e.g. 'top1'.
        label: for people, e.g. 'top-1'.
        unit: e.g. '%'; '' for none.
        decimals: how many are printed.
        higher_is_better: whether the best of several values is the highest, or the lowest.
        in_progress: whether the line of an evaluation has it; tables and files have all.
        in_training: the metric of the training log that is drawn in one picture with it; '' for none.
    """

    name: str
    label: str
    unit: str = ''
    decimals: int = 2
    higher_is_better: bool = True
    in_progress: bool = True
    in_training: str = ''

    def written(self, value: float | None) -> str:
        """A value with its unit, e.g. '80.28 %'; None is a value that is not finite, or not measured."""
        if value is None:
            return '-'
        return f'{value:.{self.decimals}f}{self.unit and f" {self.unit}"}'

    def score(self, value: float) -> float:
        """A number that is the higher the better the value is."""
        return value if self.higher_is_better else -value


class Measures(Protocol):
    """What a task measures."""

    @property
    def logged(self) -> tuple[Metric, ...]:
        """The metrics of a training log, in the order of the progress line; one is named 'loss'."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those of an evaluation, in the order in which they are reported."""
        ...

    @property
    def headline(self) -> str:
        """The name of the one of `metrics` that picks the best checkpoint."""
        ...


def headline_metric(measures: Measures) -> Metric:
    """The metric of an evaluation that picks the best checkpoint."""
    return next(metric for metric in measures.metrics if metric.name == measures.headline)


class Task(Measures, Protocol):
    """A task with its model, as the training and the evaluation step call it; its methods but the last are pure JAX."""

    @abc.abstractmethod
    def loss(
        self, params: PyTree, batch_stats: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, Sums]]:
        """The mean training loss of one device's batch.

        A loss that is normalised by a count which differs between devices, such as that of valid pixels, divides by the
        mean of the count over all devices (`lax.pmean` over `parallel.AXIS_NAME`).

        Args:
            params: trainable parameters.
            batch_stats: running statistics before the step.
            batch: one device's examples; each field has them as its first axis.
            key: for dropout; differs between devices and steps.

        Returns:
            The loss, and (updated statistics, sums over the examples, of which one is named 'loss').
        """
        ...

    @abc.abstractmethod
    def evaluate(self, params: PyTree, batch_stats: PyTree, batch: PyTree) -> tuple[dict[str, jax.Array], PyTree]:
        """Measures one device's batch, whose field 'mask' is 1 for an example and 0 for padding.

        Returns:
            Sums over the real examples; and the rows of all examples, arrays whose first axis is that of the batch.
            Both are dicts, and either may be {}. What is a count is an integer, so that it is added exactly.
        """
        ...

    @abc.abstractmethod
    def measure(self, outputs: Any, batch: PyTree) -> tuple[dict[str, jax.Array], PyTree]:
        """What `evaluate` returns, of the outputs of any network for the batch's images, such as an exported one.

        Args:
            outputs: as the model returns them, without its endpoints.
            batch: as of `evaluate`.
        """
        ...

    @abc.abstractmethod
    def training_metrics(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The metrics `logged`, by name.

        Args:
            sums: what `loss` returned, added over the devices and the steps since the last log line, in float64.
        """
        ...
