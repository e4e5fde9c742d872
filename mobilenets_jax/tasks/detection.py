"""Object detection: its networks, its evaluation, and how people see it."""

import argparse
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mobilenets_jax.config import ConfigView
from mobilenets_jax.data import Dataset, Layout
from mobilenets_jax.evaluation.detection import check_installed, detection_metrics
from mobilenets_jax.evaluation.evaluator import Arrays, Evaluation
from mobilenets_jax.heads import Detector, create_detector
from mobilenets_jax.identity import DETECTION
from mobilenets_jax.inference import TrainedNetwork
from mobilenets_jax.report.boxes import paint_boxes
from mobilenets_jax.report.detection import paint_objects, write_report
from mobilenets_jax.tasks.definition import BatchView, Predicted, PredictedTable, TaskDefinition
from mobilenets_jax.tasks.detected_images import find, find_table, trained_detector
from mobilenets_jax.tasks.detector import NMS_FIELDS, head_fields, head_of, loss_spec, nms_spec
from mobilenets_jax.tasks.network import network_arguments
from mobilenets_jax.training.detection import DetectionTask, detection_targets
from mobilenets_jax.training.frozen import Frozen
from mobilenets_jax.weights.init_from import DETECTION_HEAD

_ALONE = Layout(process_index=0, process_count=1, local_device_count=1)
_FIELDS = ('image', 'boxes', 'labels', 'valid')  # of a training batch


class Detection(TaskDefinition):
    """See `TaskDefinition`, where the methods are described."""

    measures = DetectionTask
    head = DETECTION_HEAD
    examples = DETECTION
    images_per_device = 8
    reading_fields = tuple(f'{DETECTION}.{name}' for name in NMS_FIELDS)

    def create_model(self, config: ConfigView, dataset: Dataset) -> Detector:
        """The backbone of `config.model` with the head of `config.detection`."""
        fields = head_fields(config)
        return create_detector(head=head_of(config), head_fields=fields, **network_arguments(config, dataset))

    def create_task(self, config: ConfigView, dataset: Dataset, model: nn.Module, frozen: Frozen) -> DetectionTask:
        """The losses of classes and boxes."""
        check_installed()
        return DetectionTask(
            model=model,
            preprocess=dataset.device_preprocess,
            loss_spec=loss_spec(config),
            nms=nms_spec(config.detection, head_of(config)),
            frozen=frozen,
        )

    def identity_fields(self, model: Detector) -> dict[str, Any]:
        """All that the head computes by; `create_detector(head_fields=...)` takes it again."""
        return {'head_fields': model.head_spec.to_fields()}

    def to_metrics(self, dataset: Dataset, sums: Arrays, rows: Arrays) -> dict[str, float]:
        """Average precision."""
        return detection_metrics(dataset.annotations, rows, dataset.num_classes)

    def write_report(self, folder: str, evaluation: Evaluation, dataset: Dataset, model: nn.Module) -> None:
        """Every image, the classes, every box that was found, and pictures."""
        batch = next(dataset.eval_batches(_ALONE))
        images = batch['image'][batch['mask'] > 0]
        write_report(folder, evaluation.rows, dataset.annotations, dataset.class_names, images)

    def view_batch(
        self, config: ConfigView, dataset: Dataset, batch: Mapping[str, np.ndarray], *, train: bool
    ) -> BatchView:
        """The images with their boxes upon them, and how many anchors are matched."""
        images = np.asarray(jax.jit(functools.partial(dataset.device_preprocess, train=train))(batch))
        if not train:
            return _evaluation_view(dataset, batch, images)
        matched = _matched_anchors(self.create_model(config, dataset), config, batch)
        counts = batch['valid'].sum(axis=1)
        pictures = [
            paint_boxes(image, boxes[valid] * np.tile(image.shape[:2], 2), _names(dataset, of[valid]), of[valid])
            for image, boxes, of, valid in zip(*(batch[name] for name in _FIELDS), strict=True)
        ]
        titles = [f'{boxes} boxes, {anchors.sum()} anchors' for boxes, anchors in zip(counts, matched, strict=True)]
        line = (
            f'boxes: {counts.mean():.1f} an image, {counts.max()} at most of {batch["valid"].shape[1]}, '
            f'none in {(counts == 0).sum()} of {len(counts)} images; '
            f'anchors: {matched.shape[1]}, matched {matched.sum(axis=1).mean():.1f} an image'
        )
        return BatchView(images, titles, np.stack(pictures), [line, _class_counts(dataset, batch)])

    def predict(self, arguments: argparse.Namespace) -> Predicted:
        """The boxes of the objects in each image."""
        return find(arguments)

    def predict_table(self, arguments: argparse.Namespace) -> PredictedTable:
        """A row a box."""
        return find_table(arguments)

    def trained_network(self, arguments: argparse.Namespace) -> TrainedNetwork:
        """A detector, whose codes and logits become detections by its anchors."""
        return trained_detector(arguments)


def _evaluation_view(dataset: Dataset, batch: Mapping[str, np.ndarray], images: np.ndarray) -> BatchView:
    """Of an evaluation batch without its padding; it does not have the objects of the images."""
    real = batch['mask'] > 0
    annotations = [dataset.annotations[index] for index in batch['index'][real]]
    pictures = [
        paint_objects(image, of_image, dataset.class_names)
        for image, of_image in zip(batch['image'][real], annotations, strict=True)
    ]
    counts = np.array([len(of_image.labels) for of_image in annotations])
    line = f'objects: {counts.mean():.1f} an image, none in {(counts == 0).sum()} of {len(counts)} images'
    return BatchView(images[real], [f'{count} objects' for count in counts], np.stack(pictures), [line])


def _matched_anchors(model: Detector, config: ConfigView, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which anchors have a box in the loss, bool [n, A]."""
    anchors = model.anchors(batch['image'].shape[1:3])
    boxes = {name: batch[name] for name in _FIELDS[1:]}
    targets = jax.jit(lambda boxes: detection_targets(boxes, anchors, model.head_spec.coder, loss_spec(config)).matched)
    return np.asarray(targets(boxes))


def _names(dataset: Dataset, labels: np.ndarray) -> Sequence[str]:
    return [dataset.class_names[label] for label in labels]


def _class_counts(dataset: Dataset, batch: Mapping[str, np.ndarray]) -> str:
    """How many boxes of each class a batch has."""
    counts = np.bincount(batch['labels'][batch['valid']], minlength=dataset.num_classes)
    listed = [f'{name} {count}' for name, count in zip(dataset.class_names, counts, strict=True) if count]
    return f'boxes of: {", ".join(listed) or "no class"}'
