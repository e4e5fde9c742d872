"""Image classification: its network, its evaluation, and how people see it."""

import argparse
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mobilenets_jax.config import ConfigView
from mobilenets_jax.data import Dataset
from mobilenets_jax.evaluation.classification import classification_metrics, real_metrics
from mobilenets_jax.evaluation.evaluator import Arrays, Evaluation
from mobilenets_jax.identity import CLASSIFICATION
from mobilenets_jax.inference import TrainedNetwork
from mobilenets_jax.models import create_model
from mobilenets_jax.models.network import ImageClassifier
from mobilenets_jax.report.predictions import write_report
from mobilenets_jax.tasks.classified_images import classify, classify_table, trained_classifier
from mobilenets_jax.tasks.definition import BatchView, Predicted, PredictedTable, TaskDefinition
from mobilenets_jax.tasks.network import network_arguments
from mobilenets_jax.tasks.teacher import read_teacher, with_teacher
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.distillation import DistilledTask, Teacher
from mobilenets_jax.training.frozen import Frozen
from mobilenets_jax.weights.init_from import LOGITS
from mobilenets_jax.weights.weight_arguments import load_weights

TITLE_LENGTH = 22  # characters of a class's name


class Classification(TaskDefinition):
    """See `TaskDefinition`, where the methods are described."""

    measures = ClassificationTask
    head = LOGITS
    examples = CLASSIFICATION
    images_per_device = 64

    def create_model(self, config: ConfigView, dataset: Dataset) -> ImageClassifier:
        """The classifier that the config names."""
        return create_model(**network_arguments(config, dataset))

    def create_task(
        self, config: ConfigView, dataset: Dataset, model: nn.Module, frozen: Frozen
    ) -> ClassificationTask | DistilledTask:
        """Softmax cross-entropy, by the labels and perhaps by a teacher."""
        task = ClassificationTask(
            model=model,
            preprocess=dataset.device_preprocess,
            mix=dataset.device_mix,
            label_smoothing=config.label_smoothing,
            eval_flip=config.evaluation.flip,
            frozen=frozen,
        )
        return with_teacher(config, task)

    def create_teacher(self, config: ConfigView, dataset: Dataset, model: Any) -> Teacher | None:
        """The classifier that `distillation.teacher` names."""
        return read_teacher(config, dataset, model)

    def to_metrics(self, dataset: Dataset, sums: Arrays, rows: Arrays) -> dict[str, float]:
        """Top-1, top-5 and loss; with ReaL's labels also the accuracy by these."""
        of_real = {}
        if dataset.real_labels is not None and 'predicted' in rows:
            of_real = real_metrics(rows['predicted'], dataset.real_labels)
        return classification_metrics(sums, rows) | of_real

    def write_report(self, folder: str, evaluation: Evaluation, dataset: Dataset, model: nn.Module) -> None:
        """Every prediction, the classes, and which of them are confused."""
        write_report(folder, evaluation.rows, dataset.class_names, model.num_classes, dataset.eval_names)

    def view_batch(
        self, config: ConfigView, dataset: Dataset, batch: Mapping[str, np.ndarray], *, train: bool
    ) -> BatchView:
        """The images with the names of their classes, and of those mixed in."""
        images, others, share = _mixed(dataset, batch, train=train)
        rows = zip(batch['label'], others, share, strict=True)
        return BatchView(images, [batch_title(dataset.class_names, *row) for row in rows])

    def predict(self, arguments: argparse.Namespace) -> Predicted:
        """The likeliest classes of each image."""
        return classify(arguments)

    def predict_table(self, arguments: argparse.Namespace) -> PredictedTable:
        """A row an image."""
        return classify_table(arguments)

    def trained_network(self, arguments: argparse.Namespace) -> TrainedNetwork:
        """A classifier."""
        return trained_classifier(load_weights(arguments))


def _mixed(dataset: Dataset, batch: Mapping[str, np.ndarray], *, train: bool) -> tuple[np.ndarray, ...]:
    """A batch after augmentation: images, the labels mixed in, and the share of each image's own label."""

    def step(batch):
        images = dataset.device_preprocess(batch, train=train)
        if train and dataset.device_mix:
            return dataset.device_mix(batch, images)
        return images, batch['label'], np.ones(len(batch['label']), np.float32)

    return tuple(map(np.asarray, jax.jit(step)(batch)))


def batch_title(class_names: tuple[str, ...], label: int, other: int, share: float) -> str:
    """The label of an image, and what was mixed in."""
    own = class_names[label][:TITLE_LENGTH]
    return own if share == 1 else f'{own} {share:.0%}\n{class_names[other][:TITLE_LENGTH]} {1 - share:.0%}'
