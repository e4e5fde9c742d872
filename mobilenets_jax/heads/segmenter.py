"""A backbone with a segmentation head: a class for every pixel."""

import dataclasses

import flax.linen as nn
import jax

from mobilenets_jax.heads.aspp import Aspp, AsppSpec, HeadSpec, LrAspp, LrAsppSpec
from mobilenets_jax.models.layers import LayerSettings
from mobilenets_jax.models.network import Backbone, Endpoints
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.ops import resize_bilinear

_MODULES = {AsppSpec: Aspp, LrAsppSpec: LrAspp}


class Segmenter(nn.Module):
    """A backbone, a head, and its logits resized to the size of the images.

    Attributes:
        spec: the backbone's table.
        settings: of the backbone's layers; the head's have batch-norm constants and an initializer of their own.
        num_classes: channels of the logits.
        head_spec: how the head is built.
        output_stride: of the features, 8, 16 or 32.
    """

    spec: NetworkSpec
    settings: LayerSettings
    num_classes: int
    head_spec: HeadSpec
    output_stride: int = 16

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, Endpoints]:
        """Segments images.

        Args:
            images: float [N, H, W, 3], in the range that the weights were trained with ([-1, 1] for 'tf').
            train: uses batch statistics and updates the running ones ('batch_stats' must be mutable), and applies
                dropout (an rng named 'dropout' is needed when the rate is not 0).

        Returns:
            logits float32 [N, H, W, num_classes] (float64 for float64 networks), and the backbone's endpoints with
            `head` [N, h, w, num_classes], the logits before the last resize.
        """
        spec = self.head_spec
        endpoints = Backbone(self.spec, self.settings, self.output_stride, name='backbone')(images, train=train)
        settings = dataclasses.replace(
            self.settings, bn_momentum=spec.bn_momentum, bn_epsilon=spec.bn_epsilon, initializer=spec.initializer
        )
        head = _MODULES[type(spec)](spec, settings, self.num_classes, name='head')
        logits = endpoints['head'] = head(endpoints, train=train).astype(self.settings.param_dtype)
        return resize_bilinear(logits, images.shape[1:3], align_corners=spec.align_corners), endpoints
