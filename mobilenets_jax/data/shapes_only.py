"""Data sets whose sizes are known without having them: for compiling a run on a machine that has none of its data."""

from collections.abc import Iterator

import numpy as np

from mobilenets_jax.data.box_classes import BOX_CLASSES, COCO_CATEGORIES, BoxOptions, sparse_names
from mobilenets_jax.data.class_sets import MaskOptions
from mobilenets_jax.data.dataset import Dataset
from mobilenets_jax.data.detection_options import CocoIds, DetectionOptions
from mobilenets_jax.data.example_format import detection_signature, segmentation_signature
from mobilenets_jax.data.options import DataOptions
from mobilenets_jax.data.order import Layout
from mobilenets_jax.data.segmentation_options import SegmentationOptions
from mobilenets_jax.errors import UserError

IMAGENET_CLASSES = 1000
CITYSCAPES_SIZE = (1025, 2049)  # what evaluation images are padded to
# Training and evaluation examples.
SIZES = {'tfds:imagenet2012': (1_281_167, 50_000), 'cityscapes': (2975, 500), 'tfds:cityscapes': (2975, 500)}
# The same of sets of boxes.
BOX_SIZES = {'coco': (118_287, 5000), 'tfds:coco/2017': (118_287, 5000)}
MAX_BOXES = 100  # of an example, unless it is known or said


class ShapesOnly(Dataset):
    """A data set that knows everything but its images; its name is one of `SIZES`, or `BOX_SIZES` of detection."""

    @classmethod
    def of_classification(cls, name: str, options: DataOptions) -> 'ShapesOnly':
        """One of ImageNet's images."""
        return cls(name, tuple(map(str, range(IMAGENET_CLASSES))), *SIZES[name], options)

    @classmethod
    def of_segmentation(cls, name: str, options: SegmentationOptions, mask_options: MaskOptions) -> 'ShapesOnly':
        """One of Cityscapes' images and masks."""
        classes = mask_options.class_set('cityscapes')
        eval_size = options.eval_size or CITYSCAPES_SIZE

        def signature(train):
            return segmentation_signature(
                options.image_size if train else eval_size, None if train else options.resized
            )

        dataset = cls(name, classes.names, *SIZES[name], options.common(), signature=signature)
        dataset.palette = classes.palette
        return dataset

    @classmethod
    def of_detection(
        cls, name: str, options: DetectionOptions, box_options: BoxOptions, coco_ids: CocoIds
    ) -> 'ShapesOnly':
        """One of COCO's images and boxes."""
        own = sparse_names(COCO_CATEGORIES) if coco_ids.coco_ids == 'sparse' else BOX_CLASSES['coco']
        max_boxes = options.max_boxes or MAX_BOXES

        def signature(train):
            return detection_signature(options.image_size, max_boxes if train else None)

        return cls(name, box_options.chosen or own, *BOX_SIZES[name], options.common(), signature=signature)

    def _train_rows(self, layout: Layout, start: int) -> Iterator[dict[str, np.ndarray]]:
        raise UserError(f'data.name={self.name!r} is known by its sizes alone: it can be compiled for, not read.')

    def _eval_rows(self, layout: Layout) -> Iterator[dict[str, np.ndarray]]:
        return self._train_rows(layout, 0)
