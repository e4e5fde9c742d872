"""Runs a `NetworkSpec`: stem, blocks, last convolution; and the classifier on top.

The backbone returns every block's output and taps by name, so that detection and segmentation heads use the same
module that classification trains. XLA removes what a caller does not use.

Endpoints of a backbone (all NHWC):
    `stem`, `stem_pool`, `block01`, `block02`, ..., `head_conv`: outputs by position, where the network has them.
    `last_block`: the output of the last block, which `C5` is only where no `head_conv` follows.
    `blockNN/expansion`, `blockNN/depthwise`: inside a block, after normalisation and activation (and before SE).
    `C1` ... `C5`: the last output at stride 2, 4, 8, 16, 32 of the undilated network.
    `C4/expansion`: the expansion of the first stride-32 block, still at stride 16, which SSDLite taps.
    `C5/expansion`: the expansion of the last block, before its last depthwise layer, which MobileNeXt's SSDLite taps.
    `C3/depthwise`: the depthwise output of the last stride-8 block, which LR-ASPP taps.

Paper: dilation in place of stride, 1606.00915 and the slim code's `mobilenet_base`; taps, 1905.02244 sections 6.3, 6.4.
"""

import flax.linen as nn
import jax

from mobilenets_jax.errors import check_choice
from mobilenets_jax.models.blocks import BLOCKS
from mobilenets_jax.models.layers import ConvNorm, LayerSettings
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.ops import ACTIVATIONS, global_average_pool, max_pool

Array = jax.Array
Endpoints = dict[str, Array]

OUTPUT_STRIDES = (8, 16, 32)


class _StrideTracker:
    """Turns strides into dilations once the output stride is reached, and remembers the undilated stride."""

    def __init__(self, output_stride: int, dilate_strided_block: bool):
        self._output_stride = output_stride
        self._dilate_strided_block = dilate_strided_block
        self._current = 1
        self._dilation = 1
        self.nominal = 1

    @property
    def level(self) -> str:
        """The endpoint that the last output at this stride is: 'C1' at stride 2, 'C5' at 32."""
        return f'C{self.nominal.bit_length() - 1}'

    def step(self, stride: int) -> tuple[int, int]:
        """The (stride, dilation) to use for a layer whose table says `stride`."""
        self.nominal *= stride
        if self._current * stride <= self._output_stride:
            self._current *= stride
            return stride, self._dilation
        inherited, self._dilation = self._dilation, self._dilation * stride
        return 1, self._dilation if self._dilate_strided_block else inherited


class Backbone(nn.Module):
    """The convolutional part of a network.

    Block i of n, counted from 0, drops its path at i / n of the settings' rate, as in timm and torchvision.

    Attributes:
        spec: the scaled table.
        settings: shared by all layers.
        output_stride: 8, 16 or 32: beyond it strides become dilations.
    """

    spec: NetworkSpec
    settings: LayerSettings
    output_stride: int = 32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> Endpoints:
        """Computes all endpoints of `images` [N, H, W, 3]; see the module's docstring for their names."""
        check_choice('output_stride', self.output_stride, OUTPUT_STRIDES)
        spec = self.spec
        tracker = _StrideTracker(self.output_stride, spec.convention.dilate_strided_block)
        endpoints: Endpoints = {}

        tracker.step(spec.stem.stride)
        x = ConvNorm(
            spec.stem.channels,
            spec.stem.activation,
            self.settings,
            kernel_size=spec.stem.kernel_size,
            stride=spec.stem.stride,
            name='stem',
        )(images, train=train)
        endpoints['stem'] = endpoints[tracker.level] = x
        if spec.stem_pool:
            tracker.step(2)
            x = max_pool(x, 3, stride=2, padding=self.settings.pads(3))
            endpoints['stem_pool'] = endpoints[tracker.level] = x

        for number, row in enumerate(spec.blocks, start=1):
            name = f'block{number:02d}'
            before = tracker.nominal
            stride, dilation = tracker.step(row.stride)
            drop_path_rate = self.settings.drop_path_rate * (number - 1) / len(spec.blocks)
            block = BLOCKS[row.kind](row, self.settings, stride, dilation, drop_path_rate, name=name)
            x, taps = block(x, train=train)
            endpoints[name] = endpoints[tracker.level] = x
            endpoints |= {f'{name}/{tap}': value for tap, value in taps.items()}
            if before == 16 and tracker.nominal == 32 and 'expansion' in taps:
                endpoints['C4/expansion'] = taps['expansion']
            if tracker.nominal == 8 and 'depthwise' in taps:
                endpoints['C3/depthwise'] = taps['depthwise']
        endpoints['last_block'] = x
        if 'expansion' in taps:
            endpoints['C5/expansion'] = taps['expansion']

        if spec.head_conv is not None:
            head = ConvNorm(spec.head_conv.channels, spec.head_conv.activation, self.settings, name='head_conv')
            endpoints['head_conv'] = x = head(x, train=train)
        endpoints['C5'] = x
        return endpoints


class ImageClassifier(nn.Module):
    """A backbone, global average pooling, and the classifier of the paper.

    Attributes:
        spec: the scaled table.
        settings: shared by all layers.
        num_classes: width of the logits.
        dropout_rate: fraction dropped before the logits, in training.
        output_stride: see `Backbone`.
    """

    spec: NetworkSpec
    settings: LayerSettings
    num_classes: int
    dropout_rate: float
    output_stride: int = 32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> tuple[Array, Endpoints]:
        """Classifies images.

        Args:
            images: float [N, H, W, 3], in the range that the weights were trained with ([-1, 1] for 'tf').
            train: uses batch statistics and updates the running ones ('batch_stats' must be mutable), and applies
                dropout and drop path (an rng named 'dropout' is needed when a rate is not 0).

        Returns:
            logits float32 [N, num_classes] (float64 for float64 networks), and the backbone's endpoints with
            `pooled` [N, C] and, where the paper has that layer, `pre_logits` [N, C].
        """
        endpoints = Backbone(self.spec, self.settings, self.output_stride, name='backbone')(images, train=train)
        x = endpoints['pooled'] = global_average_pool(endpoints['C5'])
        if self.spec.pre_logits is not None:
            x = self.settings.dense(self.spec.pre_logits, name='pre_logits')(x)
            x = endpoints['pre_logits'] = ACTIVATIONS[self.spec.head_activation](x)
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        logits = self.settings.dense(self.num_classes, use_bias=self.spec.classifier_bias, name='logits')(x)
        return logits.astype(self.settings.param_dtype), endpoints
