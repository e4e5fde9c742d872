"""The choices about images with masks, checked when they are made; plain Python."""

import dataclasses
from collections.abc import Sequence

from mobilenets_jax.data.options import DataOptions
from mobilenets_jax.errors import UserError, check, check_choice

SEGMENTATION_AUGMENTATIONS = ('deeplab', 'torchvision')
SEGMENTATION_COLOR_DISTORTIONS = ('none', 'photometric')

Sides = tuple[int, int]  # height, width


@dataclasses.dataclass(frozen=True)
class SegmentationOptions:
    """How images and their masks become batches.

    Attributes:
        image_size: height and width of the training crop, in pixels, or one number for both.
        batch_size: as of `DataOptions`, as are `seed` and `normalization`.
        seed: as well.
        normalization: as well; its mean is what images are padded with.
        eval_size: height and width to which evaluation images are padded at the bottom and on the right, in pixels; ():
            the source's own. No evaluation image is larger.
        eval_resize: the long side of evaluation images, in pixels, which are then padded to a square of it, for
            networks of a fixed input; 0: they keep their size. Masks always do.
        augmentation: in training, one of `SEGMENTATION_AUGMENTATIONS`; see `segmentation_preprocessing`.
        min_scale: the least factor by which images are scaled.
        max_scale: the largest.
        scale_step: deeplab's distance between the factors that are drawn; 0: any between them is.
        base_size: torchvision's short side at factor 1, in pixels.
        color_distortion: in training, one of `SEGMENTATION_COLOR_DISTORTIONS`; see `photometric`.
        random_flip: whether half of the training images are mirrored left to right.
    """

    image_size: int | Sides
    batch_size: int
    seed: int
    normalization: str = 'symmetric'
    eval_size: tuple[int, ...] = ()
    eval_resize: int = 0
    augmentation: str = 'deeplab'
    min_scale: float = 0.5
    max_scale: float = 2.0
    scale_step: float = 0.25
    base_size: int = 520
    color_distortion: str = 'none'
    random_flip: bool = True

    def __post_init__(self):
        object.__setattr__(self, 'image_size', sides('image_size', self.image_size))
        if self.eval_size:
            object.__setattr__(self, 'eval_size', sides('data.eval_size', self.eval_size))
        self.common()  # checks the other fields
        check_choice('data.augmentation', self.augmentation, SEGMENTATION_AUGMENTATIONS)
        check_choice('data.color_distortion', self.color_distortion, SEGMENTATION_COLOR_DISTORTIONS)
        check(self.eval_resize >= 0, 'data.eval_resize', self.eval_resize, 'must not be negative')
        check(self.min_scale > 0, 'data.min_scale', self.min_scale, 'must be positive')
        fits = self.max_scale >= self.min_scale
        check(fits, 'data.max_scale', self.max_scale, f'must not be less than data.min_scale={self.min_scale}')
        check(self.scale_step >= 0, 'data.scale_step', self.scale_step, 'must not be negative')
        check(self.base_size > 0, 'data.base_size', self.base_size, 'must be positive')

    def common(self) -> DataOptions:
        """Those choices that hold for every source."""
        return DataOptions(self.image_size, self.batch_size, self.seed, self.normalization)

    @property
    def resized(self) -> Sides | None:
        """Height and width of evaluation images that are resized; None: they are as large as their masks."""
        return (self.eval_resize, self.eval_resize) if self.eval_resize else None

    @property
    def mean_pixel(self) -> tuple[int, int, int]:
        """The mean of `normalization` in 0 .. 255, as whole numbers."""
        return self.common().mean_pixel


@dataclasses.dataclass(frozen=True)
class MaskPlaces:
    """Where the masks of a folder are.

    Attributes:
        mask_dir: the folder of the masks, in the data set's; '{split}' is replaced by the name of the split, as in
            '{split}annot'; '': the source's own.
    """

    mask_dir: str = ''


def sides(field: str, value: int | Sequence[int]) -> Sides:
    """A size as (height, width); `UserError` that names the field unless both are positive whole numbers."""
    try:
        numbers = (value,) if isinstance(value, int) else tuple(value)
        height, width = 2 * numbers if len(numbers) == 1 else numbers
        fits = int(height) == height > 0 and int(width) == width > 0
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise UserError(f'{field}={value!r} must be a positive number of pixels, or a pair of them (height, width).')
    return int(height), int(width)
