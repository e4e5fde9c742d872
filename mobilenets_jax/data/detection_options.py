"""The choices about images with boxes, checked when they are made; plain Python."""

import dataclasses

from mobilenets_jax.data.options import DataOptions
from mobilenets_jax.data.segmentation_options import Sides, sides
from mobilenets_jax.errors import check, check_choice

DETECTION_AUGMENTATIONS = ('none', 'tf', 'torchvision', 'mobilenext')
DETECTION_COLOR_DISTORTIONS = ('none', 'photometric', 'mobilenext')
RESIZES = ('half_pixel', 'legacy')
COCO_IDS = ('contiguous', 'sparse')
SPLIT = '{split}'  # in `CocoPlaces`


@dataclasses.dataclass(frozen=True)
class DetectionOptions:
    """How images and their boxes become batches.

    Attributes:
        image_size: height and width of the images, in pixels, or one number for both; the aspect is not kept.
        batch_size: as of `DataOptions`, as are `seed` and `normalization`.
        seed: as well.
        normalization: as well.
        resize: one of `RESIZES`, bilinear without antialiasing: 'half_pixel' (TensorFlow 2, PyTorch) or 'legacy'
            (TensorFlow 1, in which the published SSD networks were trained).
        augmentation: in training, one of `DETECTION_AUGMENTATIONS`; see `detection_preprocessing`.
        color_distortion: in training, one of `DETECTION_COLOR_DISTORTIONS`: 'photometric' (SSD's, see `photometric`) or
            'mobilenext' (also the order of the channels).
        random_flip: whether half of the training images are mirrored left to right.
        max_boxes: how many boxes a training example has, with padding; None: as many as the training image with the
            most. An image with more is an error.
    """

    image_size: int | Sides
    batch_size: int
    seed: int
    normalization: str = 'symmetric'
    resize: str = 'half_pixel'
    augmentation: str = 'tf'
    color_distortion: str = 'none'
    random_flip: bool = True
    max_boxes: int | None = None

    def __post_init__(self):
        object.__setattr__(self, 'image_size', sides('image_size', self.image_size))
        self.common()  # checks the other fields
        check_choice('data.resize', self.resize, RESIZES)
        check_choice('data.augmentation', self.augmentation, DETECTION_AUGMENTATIONS)
        check_choice('data.color_distortion', self.color_distortion, DETECTION_COLOR_DISTORTIONS)
        check(self.max_boxes is None or self.max_boxes > 0, 'data.max_boxes', self.max_boxes, 'must be positive')

    def common(self) -> DataOptions:
        """Those choices that hold for every source."""
        return DataOptions(self.image_size, self.batch_size, self.seed, self.normalization)


@dataclasses.dataclass(frozen=True)
class EmptyImages:
    """What becomes of training images without a box to learn, of sources that know them before they are read.

    Attributes:
        keep_empty: whether they are kept, as negatives.
    """

    keep_empty: bool = True


@dataclasses.dataclass(frozen=True)
class DifficultBoxes:
    """What becomes of boxes that VOC calls difficult; they are marked in evaluation.

    Attributes:
        train_difficult: whether they are learnt.
    """

    train_difficult: bool = False


@dataclasses.dataclass(frozen=True)
class CocoIds:
    """Which label a class of COCO's has.

    Attributes:
        coco_ids: one of `COCO_IDS`: 'contiguous', in the order of the ids, or 'sparse', the id - 1, as the published
            networks have it; ids that are not used are classes without a box then.
    """

    coco_ids: str = 'contiguous'

    def __post_init__(self):
        check_choice('data.coco_ids', self.coco_ids, COCO_IDS)


@dataclasses.dataclass(frozen=True)
class CocoPlaces:
    """Where COCO's files are, from the data set's folder on; '{split}' is replaced by the name of the split.

    Attributes:
        annotation_file: the JSON file of a split; without '{split}' there is one split.
        image_dir: the folder of its images.
    """

    annotation_file: str = f'annotations/instances_{SPLIT}.json'
    image_dir: str = SPLIT

    def __post_init__(self):
        for field in ('annotation_file', 'image_dir'):
            value = getattr(self, field)
            check(value.count(SPLIT) <= 1, f'data.{field}', value, f'may have {SPLIT} once')
        check(bool(self.annotation_file), 'data.annotation_file', self.annotation_file, 'must name a file')
