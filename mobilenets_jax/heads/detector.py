"""A backbone with a detection head: boxes and their classes."""

import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np

from mobilenets_jax.boxes.anchors import make_anchors
from mobilenets_jax.heads.ssdlite import Ssdlite, SsdliteSpec
from mobilenets_jax.models.layers import LayerSettings
from mobilenets_jax.models.network import Backbone, Endpoints
from mobilenets_jax.models.specs import NetworkSpec


class Detector(nn.Module):
    """A backbone and a head that gives codes and logits of all anchors; `boxes.postprocessing` makes detections.

    Attributes:
        spec: the backbone's table.
        settings: of the backbone's layers; the head's have batch-norm constants and initializers of their own.
        num_classes: without the background.
        head_spec: how the head is built.
        output_stride: of the backbone's last endpoint, 32: the anchors are made for it.
    """

    spec: NetworkSpec
    settings: LayerSettings
    num_classes: int
    head_spec: SsdliteSpec
    output_stride: int = 32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[dict[str, jax.Array], Endpoints]:
        """Predicts the boxes of images.

        Args:
            images: float [N, H, W, 3], in the range that the weights were trained with ([-1, 1] for 'tf').
            train: uses batch statistics and updates the running ones ('batch_stats' must be mutable).

        Returns:
            'codes' [N, A, 4], see `boxes.coder.BoxCoder`, and 'logits' [N, A, 1 + num_classes], whose column 0 is the
            background, both float32 (float64 for float64 networks), in the order of `anchors`; and the backbone's
            endpoints with `map0`, `map1`, ..., the inputs of the head.
        """
        spec = self.head_spec
        endpoints = Backbone(self.spec, self.settings, self.output_stride, name='backbone')(images, train=train)
        settings = dataclasses.replace(
            self.settings, bn_momentum=spec.bn_momentum, bn_epsilon=spec.bn_epsilon, initializer=spec.initializer
        )
        outputs, maps = Ssdlite(spec, settings, self.num_classes, name='head')(endpoints, train=train)
        outputs = {name: leaf.astype(self.settings.param_dtype) for name, leaf in outputs.items()}
        return outputs, endpoints | {f'map{index}': x for index, x in enumerate(maps)}

    def anchors(self, image_size: tuple[int, int]) -> np.ndarray:
        """The anchors of images of a height and width in pixels: float32 [A, 4] [y, x, height, width], fractions."""
        return make_anchors(self.head_spec.anchors, _map_sizes(self, tuple(map(int, image_size))), image_size)


@functools.lru_cache(maxsize=64)
def _map_sizes(model: Detector, image_size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Height and width of each map, without computing anything."""
    images = jax.ShapeDtypeStruct((1, *image_size, 3), 'float32')
    initialise = functools.partial(model.init_with_output, train=False)
    (_, endpoints), _ = jax.eval_shape(initialise, jax.random.key(0), images)
    return tuple(endpoints[f'map{index}'].shape[1:3] for index in range(model.head_spec.anchors.num_maps))
