"""The options of data and augmentation, checked when they are created; plain Python, for every source."""

import dataclasses

from mobilenets_jax.errors import check, check_choice

# Name -> (mean, standard deviation) per channel, for images in [0, 1].
NORMALIZATIONS = {
    'symmetric': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # [-1, 1]: TF-slim and Keras MobileNets
    'imagenet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # torchvision
    'unit': ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),  # [0, 1]: a few of timm's
}
# Training crop -> the least part of the image's area that it takes, unless one is set.
TRAIN_CROPS = {'inception': 0.05, 'random_resized': 0.08, 'resize': 1.0}
COLOR_DISTORTIONS = ('none', 'fast', 'full')
AUTO_AUGMENTS = ('none', 'autoaugment_v0', 'randaugment', 'trivialaugment_wide')
ERASING_FILLS = ('zero', 'noise')
EVAL_CROPS = ('central_fraction', 'resize_crop', 'rounded_resize_crop')
INTERPOLATIONS = ('bilinear', 'bicubic')
MAX_MAGNITUDE = 10.0

# Fields that have an effect only with some values of another field: that field, and these values; ABOVE_ZERO: all
# positive ones.
ABOVE_ZERO = 'above 0'
USED_WITH = {
    'random_erasing_fill': ('random_erasing', ABOVE_ZERO),
    'min_area_fraction': ('train_crop', ('inception', 'random_resized')),
    'randaugment_layers': ('auto_augment', ('randaugment',)),
    'randaugment_magnitude': ('auto_augment', ('randaugment',)),
    'randaugment_magnitude_std': ('auto_augment', ('randaugment',)),
    'interpolation': ('eval_crop', ('resize_crop', 'rounded_resize_crop')),
    'scale_step': ('augmentation', ('deeplab',)),
    'base_size': ('augmentation', ('torchvision',)),
}
# Fields that evaluation uses; all others are for training only.
EVALUATION_FIELDS = (
    'normalization', 'eval_crop', 'crop_fraction', 'interpolation', 'num_threads',
    'eval_size', 'eval_resize', 'classes', 'class_names', 'palette', 'remap', 'ignore_labels', 'mask_dir',
    'resize', 'coco_ids', 'annotation_file', 'image_dir', 'numbered_classes', 'real_labels',
)  # fmt: skip


def quantized_input_range(normalization: str) -> tuple[float, float]:
    """The range from black to white, in the channel where it is largest, and one of the 256 steps more.

    Without that step all pixels in [-1, 1] would be half-way between two of the 256 values, as 0 is one of them, and
    the direction of rounding would be random.

    Args:
        normalization: a key of `NORMALIZATIONS`.
    """
    channels = list(zip(*NORMALIZATIONS[normalization], strict=True))
    low, high = min((0 - mean) / std for mean, std in channels), max((1 - mean) / std for mean, std in channels)
    return low, high + (high - low) / 255


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """The options of every source.

    Attributes:
        image_size: height and width of the images, in pixels; a pair of them for images that are not square.
        batch_size: global batch size, over all processes and devices, in training and in evaluation.
        seed: seed of the order and of the augmentation, 0 <= seed < 2**31.
        normalization: a key of `NORMALIZATIONS`: 'symmetric' ([-1, 1]), 'imagenet' or 'unit' ([0, 1]).
        repeated_augmentation: how many copies of an example are in a training batch, each augmented differently; see
            `order.train_rows`.
        random_erasing: the probability that a rectangle of a training image is erased, after it was normalised.
        random_erasing_fill: the content of the rectangle, one of `ERASING_FILLS`: zeros or normal noise.
        mixup_alpha: of mixup's Beta(alpha, alpha); 0: no mixup. See `mixing`.
        cutmix_alpha: the same for cutmix; with both, each pair of images gets one of the two.
    """

    image_size: int | tuple[int, int]
    batch_size: int
    seed: int
    normalization: str = 'symmetric'
    repeated_augmentation: int = 1
    random_erasing: float = 0.0
    random_erasing_fill: str = 'zero'
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0

    def __post_init__(self):
        positive = isinstance(self.image_size, tuple) or self.image_size > 0
        check(positive, 'image_size', self.image_size, 'must be positive')
        check(self.batch_size > 0, 'batch_size', self.batch_size, 'must be positive')
        check(0 <= self.seed < 2**31, 'seed', self.seed, 'must be in [0, 2**31)')
        check_choice('data.normalization', self.normalization, NORMALIZATIONS)
        repeats = self.repeated_augmentation
        fits = repeats > 0 and self.batch_size % repeats == 0
        check(fits, 'data.repeated_augmentation', repeats, f'must divide the batch_size {self.batch_size}')
        check(0 <= self.random_erasing <= 1, 'data.random_erasing', self.random_erasing, 'must be in [0, 1]')
        check_choice('data.random_erasing_fill', self.random_erasing_fill, ERASING_FILLS)
        for field in ('mixup_alpha', 'cutmix_alpha'):
            check(getattr(self, field) >= 0, f'data.{field}', getattr(self, field), 'must not be negative')

    @property
    def mean_pixel(self) -> tuple[int, int, int]:
        """The mean of `normalization` in 0 .. 255, as whole numbers."""
        (red, green, blue), _ = NORMALIZATIONS[self.normalization]
        return round(255 * red), round(255 * green), round(255 * blue)


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """How an image file becomes pixels on the host.

    Attributes:
        image_size: height and width of the result, in pixels.
        train_crop: a key of `TRAIN_CROPS`: 'inception' (random area and aspect), 'random_resized' (torchvision's
            RandomResizedCrop, antialiased) or 'resize' (the whole image, aspect not kept).
        min_area_fraction: the least part of the image's area that a random crop takes, in (0, 1]; None: the crop's own.
        random_flip: whether half of the training images are mirrored left to right.
        color_distortion: in training, 'none', 'fast' (brightness, saturation) or 'full' (also hue and contrast).
        auto_augment: in training, one of `AUTO_AUGMENTS`; see `auto_augment`.
        randaugment_layers: how many operations RandAugment applies.
        randaugment_magnitude: their mean strength, in [0, 10].
        randaugment_magnitude_std: the standard deviation of their strength.
        eval_crop: 'central_fraction' (TF: the central part of each side, resized without keeping the aspect),
            'resize_crop' (torchvision: the short side resized to round(image_size / crop_fraction), centre cut out) or
            'rounded_resize_crop' (the same with big_vision's rounding).
        crop_fraction: the part of each side (`central_fraction`) or of the short side (`resize_crop`) evaluated, in
            (0, 1].
        interpolation: one of `INTERPOLATIONS`, of `resize_crop`; every other resize is bilinear.
    """

    image_size: int
    train_crop: str = 'inception'
    min_area_fraction: float | None = None
    random_flip: bool = True
    color_distortion: str = 'fast'
    auto_augment: str = 'none'
    randaugment_layers: int = 2
    randaugment_magnitude: float = 9.0
    randaugment_magnitude_std: float = 0.5
    eval_crop: str = 'central_fraction'
    crop_fraction: float = 0.875
    interpolation: str = 'bilinear'

    def __post_init__(self):
        check_choice('data.train_crop', self.train_crop, TRAIN_CROPS)
        if self.min_area_fraction is None:
            object.__setattr__(self, 'min_area_fraction', TRAIN_CROPS[self.train_crop])
        check_choice('data.color_distortion', self.color_distortion, COLOR_DISTORTIONS)
        check_choice('data.auto_augment', self.auto_augment, AUTO_AUGMENTS)
        check(self.randaugment_layers > 0, 'data.randaugment_layers', self.randaugment_layers, 'must be positive')
        magnitude, std = self.randaugment_magnitude, self.randaugment_magnitude_std
        check(0 <= magnitude <= MAX_MAGNITUDE, 'data.randaugment_magnitude', magnitude, 'must be in [0, 10]')
        check(std >= 0, 'data.randaugment_magnitude_std', std, 'must not be negative')
        check_choice('data.eval_crop', self.eval_crop, EVAL_CROPS)
        check_choice('data.interpolation', self.interpolation, INTERPOLATIONS)
        for field in ('min_area_fraction', 'crop_fraction'):
            value = getattr(self, field)
            check(0 < value <= 1, f'data.{field}', value, 'must be in (0, 1]')


@dataclasses.dataclass(frozen=True)
class MemoryOptions:
    """How the training images of a folder in memory are augmented on the device.

    Attributes:
        shift_pixels: the maximum shift along each axis; pixels from outside of the image are black.
        random_flip: whether half of them are mirrored left to right.
    """

    shift_pixels: int = 4
    random_flip: bool = True

    def __post_init__(self):
        check(self.shift_pixels >= 0, 'data.shift_pixels', self.shift_pixels, 'must not be negative')


@dataclasses.dataclass(frozen=True)
class FolderLabels:
    """What is told of the labels of a folder of images.

    Attributes:
        numbered_classes: whether the folders of the classes are named by the labels of a network whose classes have
            other names, as those of ImageNet-V2 are: 0 .. 999.
        real_labels: the file of ReaL's labels of ImageNet's validation images; ''. See `real_labels`.
    """

    numbered_classes: bool = False
    real_labels: str = ''


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How files are read on the host.

    Attributes:
        num_threads: number of threads that decode images; 0: as many as tf.data finds useful.
        skip_bad_records: how many unreadable training examples are replaced by the next readable one; one more ends the
            run. An evaluation replaces none, since it must measure the whole set.
    """

    num_threads: int = 0
    skip_bad_records: int = 0

    def __post_init__(self):
        for field in ('num_threads', 'skip_bad_records'):
            check(getattr(self, field) >= 0, f'data.{field}', getattr(self, field), 'must not be negative')
