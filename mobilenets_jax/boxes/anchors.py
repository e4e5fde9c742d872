"""The anchors of single-shot detectors: at each location of each map a few boxes of fixed sizes.

Paper: Liu et al., 1512.02325 section 2.2 ("default boxes").
Reference: tensorflow/models research/object_detection/anchor_generators/multiple_grid_anchor_generator.py;
torchvision/models/detection/anchor_utils.py `DefaultBoxGenerator`; lufficc/SSD ssd/modeling/anchors/prior_box.py with
the configurations of houqb/ssdlite-pytorch-mobilenext.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from mobilenets_jax.errors import check, check_choice

Size = tuple[float, float]  # height, width


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnchorSpec:
    """The anchors of a detector's maps.

    Attributes:
        sizes: for each map, height and width of the anchors at each of its locations, in the order of the head's
            channels, as fractions of the image.
        strides: pixels from one location of a map to the next, of each map; None: the locations of a map divide the
            image evenly.
        of_shorter_side: whether all sizes are fractions of the shorter side of the image, so that an anchor of equal
            height and width is square on any image, or each of its own side.
    """

    sizes: tuple[tuple[Size, ...], ...]
    strides: tuple[float, ...] | None = None
    of_shorter_side: bool = False

    def __post_init__(self):
        fits = (
            bool(self.sizes)
            and all(self.sizes)
            and all(side > 0 for sizes in self.sizes for size in sizes for side in size)
        )
        check(fits, 'sizes', self.sizes, 'must have at least one anchor for each map, with positive sides')
        fits = self.strides is None or (len(self.strides) == len(self.sizes) and all(step > 0 for step in self.strides))
        check(fits, 'strides', self.strides, f'must have a positive number for each of the {len(self.sizes)} maps')

    @property
    def num_maps(self) -> int:
        """How many maps carry anchors."""
        return len(self.sizes)

    def per_location(self, map_index: int) -> int:
        """How many anchors each location of a map has."""
        return len(self.sizes[map_index])


def tf_anchors(
    num_maps: int = 6,
    min_scale: float = 0.2,
    max_scale: float = 0.95,
    ratios: Sequence[float] = (1.0, 2.0, 0.5, 3.0, 0.3333),
    reduced_first_map: bool = True,
) -> AnchorSpec:
    """The anchors of TensorFlow: 1917 on the maps of 300 pixels, 2034 on those of 320.

    At each location those of the map's own scale, in the order of `ratios`, then a square one whose scale is the
    geometric mean of the map's own and the next one's.

    Args:
        num_maps: how many maps there are, at least two.
        min_scale: of the first map, a fraction of the image.
        max_scale: of the last map; those between are evenly spaced.
        ratios: width / height. The released networks have 0.3333, which is not 1/3 in float32.
        reduced_first_map: whether the first map has only three anchors, one of them of scale 0.1.
    """
    scales = _scales(num_maps, min_scale, max_scale)
    maps = []
    for scale, following in zip(scales, scales[1:], strict=False):
        own = [_size(scale, ratio) for ratio in ratios]
        maps.append((*own, _size(math.sqrt(scale * following))))
    if reduced_first_map:
        maps[0] = (_size(0.1), _size(scales[0], 2.0), _size(scales[0], 0.5))
    return AnchorSpec(sizes=tuple(maps), of_shorter_side=True)


def torchvision_anchors(
    num_maps: int = 6, min_scale: float = 0.2, max_scale: float = 0.95, ratios: Sequence[float] = (2.0, 3.0)
) -> AnchorSpec:
    """The anchors of torchvision: 3234 on the maps of 320 pixels.

    At each location a square one of the map's own scale, a square one between it and the next one's, then for each
    ratio the wide and the high one. No side is longer than the image's; the centres stay where they are.

    Args:
        num_maps: how many maps there are, at least two.
        min_scale: of the first map, a fraction of the image.
        max_scale: of the last map; those between are evenly spaced.
        ratios: of the longer to the shorter side.
    """
    scales = _scales(num_maps, min_scale, max_scale)
    pairs = zip(scales, scales[1:], strict=False)
    return AnchorSpec(sizes=tuple(_square_first(own, math.sqrt(own * following), ratios) for own, following in pairs))


# Least and largest sides of the anchors of each map, in pixels of an image of 320, and the ratios of the last map.
_MOBILENEXT = {
    'coco': ((45, 90, 135, 180, 225, 270), (90, 135, 180, 225, 270, 315), (2.0,)),
    'voc': ((45, 90, 135, 180, 225, 270), (120, 180, 220, 260, 300, 320), (2.0, 3.0)),
}


def mobilenext_anchors(protocol: str = 'coco') -> AnchorSpec:
    """The anchors of MobileNeXt's detectors: 3232 for COCO and 3234 for Pascal VOC on the maps of 320 pixels.

    Args:
        protocol: 'coco' or 'voc'.
    """
    check_choice('protocol', protocol, _MOBILENEXT)
    least, largest, last_ratios = _MOBILENEXT[protocol]
    ratios = [(2.0, 3.0)] * (len(least) - 1) + [last_ratios]
    sizes = tuple(
        _square_first(low / 320, math.sqrt(low * high) / 320, of_map)
        for low, high, of_map in zip(least, largest, ratios, strict=True)
    )
    # The map of 3 x 3 locations has a stride of 120 where 107 would divide the image evenly.
    return AnchorSpec(sizes=sizes, strides=(16, 32, 64, 120, 160, 320))


def make_anchors(spec: AnchorSpec, map_sizes: Sequence[tuple[int, int]], image_size: tuple[int, int]) -> np.ndarray:
    """All anchors, float32 [A, 4] [y, x, height, width], in the order map, y, x, anchor of the location.

    Args:
        spec: which anchors a location has.
        map_sizes: height and width of each map.
        image_size: height and width, in pixels.
    """
    check(len(map_sizes) == spec.num_maps, 'map_sizes', list(map_sizes), f'must be of {spec.num_maps} maps')
    image = np.asarray(image_size, np.float64)
    scale = image.min() / image if spec.of_shorter_side else np.ones(2)
    anchors = []
    for index, (map_size, sizes) in enumerate(zip(map_sizes, spec.sizes, strict=True)):
        steps = np.divide(1, map_size) if spec.strides is None else spec.strides[index] / image
        rows, columns = (step * (np.arange(count) + 0.5) for step, count in zip(steps, map_size, strict=True))
        grid = np.empty((*map_size, len(sizes), 4))
        grid[..., 0], grid[..., 1] = rows[:, None, None], columns[None, :, None]
        grid[..., 2:] = np.asarray(sizes) * scale
        anchors.append(grid.reshape(-1, 4))
    return np.concatenate(anchors).astype(np.float32)


def _scales(num_maps: int, min_scale: float, max_scale: float) -> list[float]:
    """Scale of each map, and 1 after the last."""
    check(num_maps >= 2, 'num_maps', num_maps, 'must be at least 2')
    return [min_scale + (max_scale - min_scale) * index / (num_maps - 1) for index in range(num_maps)] + [1.0]


def _size(scale: float, ratio: float = 1.0) -> Size:
    """Height and width of an anchor with the area of a square of side `scale`; `ratio` is width / height."""
    return scale / math.sqrt(ratio), scale * math.sqrt(ratio)


def _square_first(scale: float, between: float, ratios: Sequence[float]) -> tuple[Size, ...]:
    """The sizes of a location in the order of the SSD paper's code, none longer than the image."""
    stretched = [size for ratio in ratios for size in (_size(scale, ratio), _size(scale, 1 / ratio))]
    sizes = [_size(scale), _size(between), *stretched]
    return tuple((min(height, 1.0), min(width, 1.0)) for height, width in sizes)
