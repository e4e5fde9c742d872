"""Boxes as codes relative to anchors, the outputs of a detector's head.

Paper: Ren et al., 1506.01497 equation 2.
Reference: tensorflow/models research/object_detection/box_coders/faster_rcnn_box_coder.py;
torchvision/models/detection/_utils.py `BoxCoder`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from mobilenets_jax.boxes.geometry import to_centred, to_corners
from mobilenets_jax.errors import check

TORCHVISION_MAX_LOG_SIZE = math.log(1000 / 16)
_LEAST_SIDE = 1e-8  # of a box without height or width, whose logarithm must be finite


@dataclasses.dataclass(frozen=True)
class BoxCoder:
    """Codes [ty, tx, th, tw]: the centre's distance in sides of the anchor, and the logarithms of the ratios of sides.

    Attributes:
        scales: what each code is multiplied by.
        max_log_size: the largest logarithm of a ratio of sides, to which larger ones are cut; None: no limit.
            torchvision has `TORCHVISION_MAX_LOG_SIZE`.
    """

    scales: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    max_log_size: float | None = None

    def __post_init__(self):
        fits = len(self.scales) == 4 and all(scale > 0 for scale in self.scales)
        check(fits, 'scales', self.scales, 'must be four positive numbers')

    def encode(self, boxes: jax.Array, anchors: jax.Array) -> jax.Array:
        """Codes [..., A, 4] of boxes.

        Args:
            boxes: in corners, [..., A, 4], one for each anchor.
            anchors: with their centres, [A, 4].
        """
        boxes = to_centred(boxes)
        shift = (boxes[..., :2] - anchors[..., :2]) / anchors[..., 2:]
        stretch = jnp.log(jnp.maximum(boxes[..., 2:], _LEAST_SIDE) / anchors[..., 2:])
        return jnp.concatenate([shift, stretch], axis=-1) * jnp.asarray(self.scales, boxes.dtype)

    def decode(self, codes: jax.Array, anchors: jax.Array) -> jax.Array:
        """Boxes in corners, [..., A, 4], which may reach out of the image.

        Args:
            codes: [..., A, 4].
            anchors: with their centres, [A, 4].
        """
        codes = codes / jnp.asarray(self.scales, codes.dtype)
        stretch = codes[..., 2:]
        if self.max_log_size is not None:
            stretch = jnp.minimum(stretch, self.max_log_size)
        centre = codes[..., :2] * anchors[..., 2:] + anchors[..., :2]
        return to_corners(jnp.concatenate([centre, jnp.exp(stretch) * anchors[..., 2:]], axis=-1))
