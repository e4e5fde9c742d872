"""What is known about one published set of weights."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mobilenets_jax.identity import CLASSIFICATION
from mobilenets_jax.models import get_spec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From an image to the network's input, as the weights' publisher evaluates them.

    Attributes:
        image_size: height and width of the input, in pixels; with 'short_side' the smaller of the two.
        crop: 'resize_crop' (torchvision: the short side is resized, the centre cut out), 'rounded_resize_crop' (the
            same with other rounding) or 'central_fraction' (TensorFlow: the central part of each side, resized without
            keeping the aspect); of segmentation 'padded' (the long side is resized, and grey added below or to the
            right) or 'short_side' (it is resized, and nothing cut off); of detection 'stretched' (each side is resized,
            and the aspect is not kept).
        crop_fraction: the part of the side that the crop keeps; image_size / crop_fraction is the resized short side.
        interpolation: 'bilinear' or 'bicubic'.
        resize: of detection, a key of `data.detection_options.RESIZES`: 'half_pixel', or 'legacy', TensorFlow 1's.
        normalization: 'symmetric' ([-1, 1]), 'imagenet' (mean and standard deviation per channel) or 'unit' ([0, 1]).
    """

    image_size: int = 224
    crop: str = 'resize_crop'
    crop_fraction: float = 0.875
    interpolation: str = 'bilinear'
    resize: str = 'half_pixel'
    normalization: str = 'symmetric'


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightCard:
    """One published set of weights.

    Attributes:
        name: SOURCE:WEIGHTS, as `--weights` takes it; of a file without a card its path.
        task: a key of `tasks.TASKS`.
        model: the architecture; of a segmentation network or detector that of its backbone.
        width_multiplier: of the architecture.
        convention: whose rounding, padding and constants the network has.
        fields: further fields of the network, as `create_model`, `create_segmenter` or `create_detector` takes them.
        preprocessing: of its evaluation.
        url: where it is published, or None for a file without a card.
        digest: 'sha256:HEX' or 'md5:HEX' as published, perhaps the first digits only; None where none is published.
        member: of an archive, the file with the weights, as a shell pattern.
        folded: whether the batch norms are folded into the convolutions; here they are then identities with biases.
        licence: of the weights, as their publisher states it.
        top1: ImageNet validation top-1 in percent as published, or None.
        top5: likewise.
        miou: of a segmentation network, mean intersection over union in percent as published, or None.
        ap: of a detector, COCO's average precision in percent as published, or None.
        measured: top-1 and top-5 in percent that this project measured, or None; see `cards.MEASURED_ON`.
        class_names: of a checkpoint of this project, or of weights for segmentation or detection, in the order of the
            labels; (): none are stated.
        ranges: of the activations of a run that trained for 8 bit, (least, largest value) by the names of
            `fake_quantization`; {}: of all others.
    """

    name: str
    model: str
    width_multiplier: float = 1.0
    convention: str
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    preprocessing: Preprocessing
    url: str | None = None
    digest: str | None = None
    member: str | None = None
    folded: bool = False
    licence: str | None = None
    top1: float | None = None
    top5: float | None = None
    miou: float | None = None
    ap: float | None = None
    measured: tuple[float, float] | None = None
    class_names: tuple[str, ...] = ()
    task: str = CLASSIFICATION
    ranges: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    @property
    def bn_epsilon(self) -> float:
        """What the network's batch norms add to the variance."""
        return get_spec(self.model, self.width_multiplier, self.convention).convention.bn_epsilon

    @property
    def file_name(self) -> str | None:
        """The last part of the URL; timm's files with the same name differ in the folder above them."""
        if self.url is None:
            return None
        folder, _, name = self.url.removesuffix('/resolve/main/model.safetensors').rpartition('/')
        return f'{name}.safetensors' if self.url.endswith('/resolve/main/model.safetensors') else name
