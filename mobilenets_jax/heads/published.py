"""The detectors with published figures, to compare with the figures here.

Reference: 1905.02244v5 Table 6 (COCO test-dev 2017, 320 pixels, latency on one large core of a Pixel 1); torchvision
    0.28 models/detection/ssdlite.py; houqb/ssdlite-pytorch-mobilenext@6219e33 README (COCO val 2017 and, of 20 classes,
    Pascal VOC 2007 test), parameters and multiply-adds from 2007.02269 Table 9.
Differs: Table 6 prints parameters without batch norm. Its rows of V1 and V2 at width 1.0 are those of 1801.04381,
    for 80 classes; the others are for the 90 numbers of COCO. Widths below 1.0 have a narrower last convolution, too.
    MnasNet has 0.4 to 1 % fewer parameters here than are printed.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mobilenets_jax.models.tails import FULL


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedDetector:
    """A row of a table.

    Attributes:
        model: the backbone.
        width_multiplier: of it.
        convention: of it.
        tail: of it, see `models.get_spec`.
        head: a key of `ssdlite.DETECTION_HEADS`.
        fields: further fields of `create_detector`.
        num_classes: without the background.
        image_size: in pixels.
        params: parameters in millions, as printed.
        madds: multiply-adds in billions, as printed.
        ap: COCO AP in percent, as printed; of 20 classes AP at IoU 0.5 on Pascal VOC.
        latency_ms: of one image, as printed; the source says on what.
        source: where it is printed.
    """

    model: str
    width_multiplier: float = 1.0
    convention: str = 'tf'
    tail: str = FULL
    head: str = 'tf'
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    num_classes: int = 90
    image_size: int = 320
    params: float | None = None
    madds: float | None = None
    ap: float
    latency_ms: float | None = None
    source: str

    @property
    def arguments(self) -> dict[str, Any]:
        """What `create_detector` takes."""
        names = ('num_classes', 'head', 'width_multiplier', 'convention', 'tail')
        return {'name': self.model, **{name: getattr(self, name) for name in names}, **self.fields}


def _table_6(model: str, ap: float, latency_ms: float, params: float, madds: float, **fields) -> PublishedDetector:
    figures: dict[str, Any] = {'ap': ap, 'latency_ms': latency_ms, 'params': params, 'madds': madds}
    return PublishedDetector(model=model, **figures, source='1905.02244v5 Table 6', **fields)


_NARROW = {'last_channels': 'scaled'}
_MOBILENEXT = 'MobileNeXt README@6219e33'

PUBLISHED_DETECTORS = (
    # backbone, AP, ms, parameters, multiply-adds
    _table_6('mobilenet_v1', 22.2, 228, 5.1, 1.3, num_classes=80),
    _table_6('mobilenet_v2', 22.1, 162, 4.3, 0.80, num_classes=80),
    _table_6('mnasnet_a1', 23.0, 174, 4.88, 0.84),
    _table_6('mobilenet_v3_large', 22.0, 137, 4.97, 0.62),
    _table_6('mobilenet_v3_large', 22.0, 119, 3.22, 0.51, tail='detection'),
    _table_6('mobilenet_v2', 13.7, 66, 0.93, 0.16, width_multiplier=0.35, fields=_NARROW),
    _table_6('mobilenet_v2', 16.6, 79, 1.54, 0.27, width_multiplier=0.5, fields=_NARROW),
    _table_6('mnasnet_a1', 15.6, 68, 1.02, 0.18, width_multiplier=0.35, fields=_NARROW),
    _table_6('mnasnet_a1', 18.5, 85, 1.68, 0.29, width_multiplier=0.5, fields=_NARROW),
    _table_6('mobilenet_v3_small', 16.0, 52, 2.49, 0.21),
    _table_6('mobilenet_v3_small', 16.1, 43, 1.77, 0.16, tail='detection'),
    PublishedDetector(
        model='mobilenet_v3_large',
        convention='torchvision',
        tail='detection',
        head='torchvision',
        params=3.440060,
        madds=0.583,
        ap=21.3,
        source='torchvision 0.28',
    ),
    PublishedDetector(model='mobilenext', head='mobilenext', num_classes=80, ap=23.3, source=_MOBILENEXT),
    PublishedDetector(
        model='mobilenext', head='mobilenext', num_classes=20, params=4.3, madds=0.8, ap=72.6, source=_MOBILENEXT
    ),
)
