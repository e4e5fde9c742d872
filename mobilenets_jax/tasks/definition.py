"""What a task is to the parts that work for all tasks: the experiment, eval.py, `compile`, `inspect`, `predict`, ..."""

import abc
import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import numpy as np

from mobilenets_jax.config import ConfigView
from mobilenets_jax.data import Dataset
from mobilenets_jax.errors import UserError
from mobilenets_jax.evaluation.evaluator import Arrays, Evaluation
from mobilenets_jax.inference import TrainedNetwork
from mobilenets_jax.training.distillation import Teacher
from mobilenets_jax.training.frozen import Frozen
from mobilenets_jax.training.task import Measures, Task
from mobilenets_jax.weights.init_from import Head


class BatchView(NamedTuple):
    """A batch for people.

    Attributes:
        images: the network's input, [n, H, W, 3].
        titles: the text above each.
        pictures: drawn in place of them, e.g. with their masks, [n, H, W, 3]; None: the images.
        lines: text about the batch, in addition to the statistics of its images.
    """

    images: np.ndarray
    titles: Sequence[str]
    pictures: np.ndarray | None = None
    lines: Sequence[str] = ()


class Predicted(NamedTuple):
    """What a network makes of image files.

    Attributes:
        rows: of each image, JSON-able.
        text: the same in words.
        draw: writes a picture of it to a file; raises `UserError` if it cannot.
    """

    rows: list[dict[str, Any]]
    text: str
    draw: Callable[[str], None]


class PredictedTable(NamedTuple):
    """What a network makes of any number of image files, batch by batch.

    Attributes:
        header: the names of the columns; the first is that of the image.
        read: from an image file to arrays by name, of one shape for all files; raises `UserError` where it cannot.
        rows: from the paths of some files and their arrays, stacked, to rows of the table. The arrays may have more
            rows than there are paths: padding, by which all batches have one shape.
    """

    header: Sequence[str]
    read: Callable[[str], dict[str, np.ndarray]]
    rows: Callable[[Sequence[str], Arrays], list[Sequence[object]]]


class TaskDefinition(Protocol):
    """A task before there is a run: how its parts are made of a config and a data set, and how people see it.

    The fields of the config that it alone has are in `configs/base.py`.

    Attributes:
        measures: its metrics.
        head: what of its network starts afresh with new_head.
        examples: which it learns from, a key of `data.SOURCES_OF_TASKS`.
        images_per_device: in a batch that published weights are evaluated on, unless the config says otherwise.
        reading_fields: of the config, by dotted path: those of its sections by which results are made of the network's
            outputs; all others belong to the network.
    """

    measures: Measures
    head: Head
    examples: str
    images_per_device: int
    reading_fields: tuple[str, ...] = ()

    @abc.abstractmethod
    def create_model(self, config: ConfigView, dataset: Dataset) -> nn.Module:
        """The network, with the call contract of `mobilenets_jax.models`, `num_classes` and `settings`.

        Raises:
            UserError: for any value that cannot be run.
        """
        ...

    @abc.abstractmethod
    def create_task(self, config: ConfigView, dataset: Dataset, model: nn.Module, frozen: Frozen) -> Task:
        """The task with its network; reads all fields that the task alone has."""
        ...

    def create_teacher(self, config: ConfigView, dataset: Dataset, model: nn.Module) -> Teacher | None:
        """The trained network that the task's `taught_by` takes before a step is made; None: there is none.

        Args:
            config: of the run.
            dataset: of the run.
            model: what is trained.

        Raises:
            UserError: it cannot be read, or does not fit.
        """
        del config, dataset, model
        return None

    def identity_fields(self, model: nn.Module) -> dict[str, Any]:
        """Properties that a checkpoint must share with a run, in addition to `identity.NETWORK_FIELDS`, JSON-able."""
        del model
        return {}

    @abc.abstractmethod
    def to_metrics(self, dataset: Dataset, sums: Arrays, rows: Arrays) -> Mapping[str, float]:
        """The metrics of an evaluation, as `evaluation.evaluator.Evaluator` asks for them."""
        ...

    @abc.abstractmethod
    def write_report(self, folder: str, evaluation: Evaluation, dataset: Dataset, model: nn.Module) -> None:
        """Writes the network's results on the evaluation set; raises `UserError` if they cannot be written."""
        ...

    @abc.abstractmethod
    def view_batch(
        self, config: ConfigView, dataset: Dataset, batch: Mapping[str, np.ndarray], *, train: bool
    ) -> BatchView:
        """A device's batch as a step uses it, of the training or the evaluation set.

        Args:
            config: of the run, whose network may say more about the batch.
            dataset: whose batch it is.
            batch: of the evaluation set also with 'index'.
            train: whether it is of the training set.

        Raises:
            UserError: the config's network cannot be built.
        """
        ...

    @abc.abstractmethod
    def predict(self, arguments: argparse.Namespace) -> Predicted:
        """What a network makes of image files.

        Args:
            arguments: of the command `predict`.

        Raises:
            UserError: a file or a value is wrong, or an option means nothing to the task.
        """
        ...

    def predict_table(self, arguments: argparse.Namespace) -> PredictedTable:
        """What a network makes of image files, as a table.

        Args:
            arguments: of the command `predict`.

        Raises:
            UserError: a value is wrong, an option means nothing to the task, or the task has no such table.
        """
        raise UserError(f'--csv={arguments.csv!r} is not offered for this task; --json says what is found.')

    @abc.abstractmethod
    def trained_network(self, arguments: argparse.Namespace) -> TrainedNetwork:
        """The network that weights or a run have, and what must be known of it where it is used: what is exported.

        Args:
            arguments: of `weights.weight_arguments`.

        Raises:
            UserError: there is no such network, or its input is not known.
        """
        ...
