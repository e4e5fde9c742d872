"""SSD's head in its light form: maps of six sizes, and boxes and classes of anchors out of each by separable layers.

Paper: Liu et al., 1512.02325 (SSD); 1801.04381 section 6.2 (SSDLite); 1905.02244 section 6.3, Table 6; 2007.02269
    section 4.3 (MobileNeXt).
Reference: tensorflow/models research/object_detection/models/{feature_map_generators,
    ssd_mobilenet_v3_feature_extractor}.py, predictors/convolutional_box_predictor.py and samples/configs/
    ssdlite_mobilenet_v3_large_320x320_coco.config@608bd22; torchvision 0.28 models/detection/ssdlite.py;
    houqb/ssdlite-pytorch-mobilenext@6219e33 ssd/modeling/{backbone/mobilenext,box_head/box_predictor}.py.
Differs: MobileNeXt's depthwise convolutions of the predictors have a bias, which the batch norm behind them takes away
    again; here they have none.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mobilenets_jax.boxes.anchors import AnchorSpec, mobilenext_anchors, tf_anchors, torchvision_anchors
from mobilenets_jax.boxes.coder import TORCHVISION_MAX_LOG_SIZE, BoxCoder
from mobilenets_jax.boxes.postprocessing import SCORES
from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.models.layers import ConvNorm, LayerSettings
from mobilenets_jax.models.network import Endpoints
from mobilenets_jax.models.specs import INITIALIZERS

EXPANSIONS = {'C4/expansion': 'C4', 'C5/expansion': 'C5'}  # the endpoint used instead in networks that do not have it
EXTRAS = ('separable', 'dense', 'sandglass')
PREDICTORS = ('separable', 'pointwise')


@dataclasses.dataclass(frozen=True, kw_only=True)
class SsdliteSpec:
    """How a detector's head is built.

    Attributes:
        anchors: at each location of each map.
        coder: decodes the predicted codes.
        scores: what makes scores of logits, a key of `boxes.postprocessing.SCORES`: 'sigmoid', of each class by itself,
            or 'softmax', of all and the background.
        taps: the endpoints of the backbone that are the first maps; a network without 'C4/expansion' or 'C5/expansion'
            has 'C4' or 'C5' there.
        extras: of each further map, half as large as the one before it, the channels in the middle of its layers and
            those of the map.
        extra_kind: 'separable' (1x1, depthwise at stride 2, 1x1), 'dense' (1x1, 3x3 at stride 2) or 'sandglass'
            (depthwise at stride 2, 1x1 without activation, 1x1).
        predictor: 'separable' (depthwise, 1x1) or 'pointwise' (1x1).
        pointwise_last: whether the last map, of one pixel as a rule, has pointwise predictors in any case.
        class_bias: of all logits when training begins; -4.6 is a score of 0.01.
        bn_momentum: decay of the running statistics of the head, and of the backbone unless that sets another.
        bn_epsilon: added to the variances of the head's own batch norms.
        initializer: of the extra layers, and of the backbone unless that sets another; a key of
            `models.layers.INITIALIZERS`.
        box_initializer: of the layers that predict boxes.
        class_initializer: of the layers that predict classes.
    """

    anchors: AnchorSpec
    coder: BoxCoder = BoxCoder()
    scores: str = 'sigmoid'
    taps: tuple[str, ...] = ('C4/expansion', 'C5')
    extras: tuple[tuple[int, int], ...] = ((256, 512), (128, 256), (128, 256), (64, 128))
    extra_kind: str = 'separable'
    predictor: str = 'separable'
    pointwise_last: bool = False
    class_bias: float = -4.6
    bn_momentum: float = 0.97
    bn_epsilon: float = 1e-3
    initializer: str = 'object_detection'
    box_initializer: str = 'ssdlite'
    class_initializer: str = 'ssdlite'

    def __post_init__(self):
        object.__setattr__(self, 'taps', tuple(self.taps))
        check(bool(self.taps), 'taps', self.taps, 'must be at least one endpoint')
        pairs = all(isinstance(pair, list | tuple) and len(pair) == 2 and min(pair) > 0 for pair in self.extras)
        check(pairs, 'extras', self.extras, 'must be pairs of positive numbers of channels')
        object.__setattr__(self, 'extras', tuple(map(tuple, self.extras)))
        maps = len(self.taps) + len(self.extras)
        check(maps == self.anchors.num_maps, 'anchors', f'{self.anchors.num_maps} maps', f'must be of {maps} maps')
        check_choice('scores', self.scores, SCORES)
        check_choice('extra_kind', self.extra_kind, EXTRAS)
        check_choice('predictor', self.predictor, PREDICTORS)
        for field in ('initializer', 'box_initializer', 'class_initializer'):
            check_choice(field, getattr(self, field), INITIALIZERS)

    def to_fields(self) -> dict[str, Any]:
        """All fields, JSON-able; `replace` takes them again."""
        return _plain(dataclasses.asdict(self))

    def replace(self, fields: Mapping[str, Any]) -> 'SsdliteSpec':
        """This head with other fields, by their names.

        Args:
            fields: as the attributes, or as `to_fields` gives them.
        """
        names = [field.name for field in dataclasses.fields(self)]
        for field in fields:
            check_choice('field of the head', field, names)
        nested = {'anchors': _anchors, 'coder': _coder}
        fields = {
            name: nested[name](value) if name in nested and isinstance(value, Mapping) else value
            for name, value in fields.items()
        }
        return dataclasses.replace(self, **fields)


_TF = SsdliteSpec(anchors=tf_anchors())
# By name, at width 1.0. What begins and trains the layers is that of the V3 configs.
DETECTION_HEADS = {
    'tf': _TF,
    'ssd': dataclasses.replace(_TF, extra_kind='dense', predictor='pointwise'),
    'torchvision': SsdliteSpec(
        anchors=torchvision_anchors(),
        coder=BoxCoder(max_log_size=TORCHVISION_MAX_LOG_SIZE),
        scores='softmax',
        class_bias=0.0,
        initializer='ssdlite',
    ),
    'mobilenext': SsdliteSpec(
        anchors=mobilenext_anchors(),
        taps=('C4/expansion', 'C5/expansion'),
        extras=((256, 512), (128, 256), (128, 256), (128, 128)),
        extra_kind='sandglass',
        pointwise_last=True,
        class_bias=-math.log(99),
        bn_momentum=0.9,
        bn_epsilon=1e-5,
        initializer='torchvision',
        box_initializer='keras',
        class_initializer='small_normal',
    ),
}


def _plain(value: Any) -> Any:
    """`value` with lists for tuples, as JSON gives it back."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _anchors(fields: Mapping[str, Any]) -> AnchorSpec:
    sizes = tuple(tuple(map(tuple, of_map)) for of_map in fields['sizes'])
    strides = fields['strides'] and tuple(fields['strides'])
    return AnchorSpec(**{**fields, 'sizes': sizes, 'strides': strides})


def _coder(fields: Mapping[str, Any]) -> BoxCoder:
    return BoxCoder(**{**fields, 'scales': tuple(fields['scales'])})


class Extra(nn.Module):
    """The layers between a map and the next, which is half as large.

    Attributes:
        kind: one of `EXTRAS`.
        reduced: channels in the middle.
        out_channels: channels of the map.
        settings: of the head's layers.
    """

    kind: str
    reduced: int
    out_channels: int
    settings: LayerSettings

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [N, H, W, C] to [N, ceil(H / 2), ceil(W / 2), out_channels]."""
        strided: dict[str, Any] = {'kernel_size': 3, 'stride': 2}
        if self.kind == 'sandglass':
            x = self._layer(x.shape[-1], 'depthwise', depthwise=True, **strided)(x, train=train)
            x = self._layer(self.reduced, 'reduce', activation='linear')(x, train=train)
            return self._layer(self.out_channels, 'expand')(x, train=train)
        x = self._layer(self.reduced, 'reduce')(x, train=train)
        if self.kind == 'dense':
            return self._layer(self.out_channels, 'expand', **strided)(x, train=train)
        x = self._layer(self.reduced, 'depthwise', depthwise=True, **strided)(x, train=train)
        return self._layer(self.out_channels, 'expand')(x, train=train)

    def _layer(self, features: int, name: str, activation: str = 'relu6', **fields) -> ConvNorm:
        return ConvNorm(features, activation, self.settings, name=name, **fields)


class Predictor(nn.Module):
    """One convolution with bias, in the separable form after a depthwise one: some numbers for each anchor of a map.

    Attributes:
        separable: whether there is a depthwise convolution.
        anchors: at each location.
        numbers: for each of them.
        bias: of the last layer when training begins.
        settings: of the layers.
    """

    separable: bool
    anchors: int
    numbers: int
    bias: float
    settings: LayerSettings

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [N, H, W, C] to [N, H * W * anchors, numbers]."""
        if self.separable:
            depthwise = ConvNorm(x.shape[-1], 'relu6', self.settings, kernel_size=3, depthwise=True, name='depthwise')
            x = depthwise(x, train=train)
        bias = nn.initializers.constant(self.bias)
        x = self.settings.dense(self.anchors * self.numbers, bias_init=bias, name='project')(x)
        return x.reshape(x.shape[0], -1, self.numbers)  # (N, H, W, anchors * numbers) -> (N, H * W * anchors, numbers)


class Ssdlite(nn.Module):
    """Maps out of a backbone's endpoints, and the codes and logits of the anchors of each.

    Attributes:
        spec: the layers.
        settings: of the head's layers.
        num_classes: without the background.
    """

    spec: SsdliteSpec
    settings: LayerSettings
    num_classes: int

    @nn.compact
    def __call__(self, endpoints: Endpoints, *, train: bool) -> tuple[dict[str, jax.Array], list[jax.Array]]:
        """'codes' [N, A, 4] and 'logits' [N, A, 1 + num_classes], background first; and the maps [N, H, W, C]."""
        spec = self.spec
        maps = [self._tapped(tap, endpoints) for tap in spec.taps]
        for number, (reduced, out_channels) in enumerate(spec.extras, start=1):
            extra = Extra(spec.extra_kind, reduced, out_channels, self.settings, name=f'extra{number}')
            maps.append(extra(maps[-1], train=train))
        codes, logits = [], []
        for index, x in enumerate(maps):
            separable = spec.predictor == 'separable' and not (spec.pointwise_last and index == len(maps) - 1)
            anchors = spec.anchors.per_location(index)
            boxes, classes = (
                dataclasses.replace(self.settings, initializer=name)
                for name in (spec.box_initializer, spec.class_initializer)
            )
            predictor = Predictor(separable, anchors, 4, 0.0, boxes, name=f'boxes{index}')
            codes.append(predictor(x, train=train))
            columns = 1 + self.num_classes
            predictor = Predictor(separable, anchors, columns, spec.class_bias, classes, name=f'classes{index}')
            logits.append(predictor(x, train=train))
        return {'codes': jnp.concatenate(codes, axis=1), 'logits': jnp.concatenate(logits, axis=1)}, maps

    def _tapped(self, tap: str, endpoints: Endpoints) -> jax.Array:
        tap = tap if tap in endpoints else EXPANSIONS.get(tap, tap)
        check_choice('taps', tap, endpoints)
        return endpoints[tap]
