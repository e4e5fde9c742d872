"""Semantic segmentation: its networks, its evaluation, and how people see it."""

import argparse
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mobilenets_jax.config import ConfigView
from mobilenets_jax.config_use import fields_in_use
from mobilenets_jax.data import Dataset
from mobilenets_jax.evaluation.evaluator import Arrays, Evaluation
from mobilenets_jax.evaluation.segmentation import segmentation_metrics
from mobilenets_jax.heads import Segmenter, create_segmenter, head_name
from mobilenets_jax.identity import SEGMENTATION
from mobilenets_jax.inference import TrainedNetwork
from mobilenets_jax.report.segmentation import paint, write_report
from mobilenets_jax.tasks.definition import BatchView, Predicted, TaskDefinition
from mobilenets_jax.tasks.network import network_arguments
from mobilenets_jax.tasks.segmented_images import segment, trained_segmenter
from mobilenets_jax.training.frozen import Frozen
from mobilenets_jax.training.segmentation import SegmentationTask
from mobilenets_jax.weights.init_from import ALL_BUT_BACKBONE

# The fields of `config.segmentation` that are not the head's.
TASK_FIELDS = ('class_weights', 'eval_scales', 'eval_flip')


class Segmentation(TaskDefinition):
    """See `TaskDefinition`, where the methods are described."""

    measures = SegmentationTask
    head = ALL_BUT_BACKBONE
    examples = SEGMENTATION
    images_per_device = 4

    def create_model(self, config: ConfigView, dataset: Dataset) -> Segmenter:
        """The backbone of `config.model` with the head of `config.segmentation`."""
        used = fields_in_use(config, 'segmentation')
        head = used.pop('head')
        head_fields = {name: value for name, value in used.items() if name not in TASK_FIELDS and value is not None}
        return create_segmenter(head=head, head_fields=head_fields, **network_arguments(config, dataset))

    def create_task(self, config: ConfigView, dataset: Dataset, model: nn.Module, frozen: Frozen) -> SegmentationTask:
        """Softmax cross-entropy of pixels."""
        return SegmentationTask(
            model=model,
            preprocess=dataset.device_preprocess,
            class_weights=tuple(config.segmentation.class_weights),
            eval_scales=tuple(config.segmentation.eval_scales),
            eval_flip=config.segmentation.eval_flip,
            frozen=frozen,
        )

    def identity_fields(self, model: Segmenter) -> dict[str, Any]:
        """All that the head computes by; `create_segmenter(head=..., head_fields=...)` takes it again."""
        fields = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(model.head_spec).items()
        }
        return {'head': head_name(model.head_spec), 'head_fields': fields}

    def to_metrics(self, dataset: Dataset, sums: Arrays, rows: Arrays) -> dict[str, float]:
        """Mean intersection over union, pixel accuracy, loss."""
        return segmentation_metrics(sums, rows)

    def write_report(self, folder: str, evaluation: Evaluation, dataset: Dataset, model: nn.Module) -> None:
        """Every image, the classes, and which of them are confused."""
        write_report(folder, evaluation.rows, dataset.class_names, dataset.eval_names)

    def view_batch(
        self, config: ConfigView, dataset: Dataset, batch: Mapping[str, np.ndarray], *, train: bool
    ) -> BatchView:
        """The images with their masks upon them, and how much of each is ignored."""
        images = np.asarray(jax.jit(functools.partial(dataset.device_preprocess, train=train))(batch))
        labels = batch['segmentation']
        ignored = (labels >= dataset.num_classes).mean(axis=(1, 2))
        shares = [f'{name} {(labels == label).mean():.1%}' for label, name in enumerate(dataset.class_names)]
        return BatchView(
            images,
            [f'{share:.0%} ignored' for share in ignored],
            paint(batch['image'], labels, dataset.palette),
            [f'pixels: ignored {ignored.mean():.1%}, {", ".join(shares)}'],
        )

    def predict(self, arguments: argparse.Namespace) -> Predicted:
        """The class of each pixel of each image."""
        return segment(arguments)

    def trained_network(self, arguments: argparse.Namespace) -> TrainedNetwork:
        """A segmentation network of images of one size."""
        return trained_segmenter(arguments)
