"""The choices about images with boxes, checked when they are made; plain Python."""

import dataclasses

from mobilenets_jax.data.options import Options
from mobilenets_jax.data.segmentation_options import Sides, sides
from mobilenets_jax.errors import check, check_choice

DETECTION_AUGMENTATIONS = ('none', 'tf', 'torchvision', 'mobilenext')
RESIZES = ('half_pixel', 'legacy')
COCO_IDS = ('contiguous', 'sparse')


@dataclasses.dataclass(frozen=True)
class DetectionOptions:
    """How images and their boxes become batches.

    Attributes:
        image_size: height and width of the images, in pixels, or one number for both; the aspect is not kept.
        batch_size: as of `Options`, as are `seed` and `normalization`.
        seed: as well.
        normalization: as well.
        resize: one of `RESIZES`, bilinear without antialiasing: 'half_pixel' (TensorFlow 2, PyTorch) or 'legacy'
            (TensorFlow 1, in which the published SSD networks were trained).
        augmentation: in training, one of `DETECTION_AUGMENTATIONS`; see `detection_preprocessing`.
        random_flip: whether half of the training images are mirrored left to right.
        max_boxes: how many boxes a training example has, with padding; None: as many as the training image with the
            most. An image with more is an error.
        keep_empty: whether training images without a box are kept, as negatives.
        train_difficult: whether boxes that VOC calls difficult are learnt.
    """

    image_size: int | Sides
    batch_size: int
    seed: int
    normalization: str = 'symmetric'
    resize: str = 'half_pixel'
    augmentation: str = 'tf'
    random_flip: bool = True
    max_boxes: int | None = None
    keep_empty: bool = True
    train_difficult: bool = False

    def __post_init__(self):
        object.__setattr__(self, 'image_size', sides('image_size', self.image_size))
        self.common()  # checks the rest of what it has
        check_choice('data.resize', self.resize, RESIZES)
        check_choice('data.augmentation', self.augmentation, DETECTION_AUGMENTATIONS)
        check(self.max_boxes is None or self.max_boxes > 0, 'data.max_boxes', self.max_boxes, 'must be positive')

    def common(self) -> Options:
        """Those choices that hold for every source."""
        return Options(self.image_size, self.batch_size, self.seed, self.normalization)
