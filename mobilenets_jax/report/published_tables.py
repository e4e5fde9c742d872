"""Tables 3 and 4 of the MobileNetV3 paper as printed, and the networks of their rows.

Source: 1905.02244v5 Tables 3 and 4. Latencies are of one big core with TensorFlow Lite, one image at a time; version 1
    of the paper prints other, larger ones.
"""

from typing import Any, NamedTuple

from mobilenets_jax.models import get_spec
from mobilenets_jax.models.found import to_text
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.search import proxylessnas_mobile

SOURCE = '1905.02244v5'
PHONES = ('Pixel 1', 'Pixel 2', 'Pixel 3')


class PublishedRow(NamedTuple):
    """A row of a table, as printed.

    Attributes:
        label: of the network.
        model: its arguments for `models.create_model`; the first is its name.
        top1: of ImageNet's validation images, in percent.
        milliseconds: of one image, of each of `PHONES`.
        madds: in millions; None where the table has no such column.
        params: in millions; None where the table has no such column.
    """

    label: str
    model: dict[str, Any]
    top1: float
    milliseconds: tuple[float, float, float]
    madds: float | None = None
    params: float | None = None

    @property
    def spec(self) -> NetworkSpec:
        """The network's table."""
        return get_spec(**self.model)


def _network(name: str, width_multiplier: float = 1.0) -> dict[str, Any]:
    return {'name': name, 'width_multiplier': width_multiplier}


def _proxylessnas() -> dict[str, Any]:
    name = proxylessnas_mobile.NAME
    return {'name': name, 'table': to_text(name, proxylessnas_mobile.spec())}


FLOAT_ROWS = (
    PublishedRow('V3-Large 1.0', _network('mobilenet_v3_large'), 75.2, (51, 61, 44), 219, 5.4),
    PublishedRow('V3-Large 0.75', _network('mobilenet_v3_large', 0.75), 73.3, (39, 46, 40), 155, 4.0),
    PublishedRow('MnasNet-A1', _network('mnasnet_a1'), 75.2, (71, 86, 61), 315, 3.9),
    PublishedRow('ProxylessNAS', _proxylessnas(), 74.6, (72, 84, 60), 320, 4.0),
    PublishedRow('V2 1.0', _network('mobilenet_v2'), 72.0, (64, 76, 56), 300, 3.4),
    PublishedRow('V3-Small 1.0', _network('mobilenet_v3_small'), 67.4, (15.8, 19.4, 14.4), 56, 2.5),
    PublishedRow('V3-Small 0.75', _network('mobilenet_v3_small', 0.75), 65.4, (12.8, 15.6, 11.7), 44, 2.0),
    PublishedRow('MnasNet-small', _network('mnasnet_small'), 64.9, (20.3, 24.2, 17.2), 65.1, 1.9),
    PublishedRow('V2 0.35', _network('mobilenet_v2', 0.35), 60.8, (16.6, 19.6, 13.9), 59.2, 1.6),
)

QUANTIZED_ROWS = (
    PublishedRow('V3-Large 1.0', _network('mobilenet_v3_large'), 73.8, (44, 42.5, 31.7)),
    PublishedRow('V2 1.0', _network('mobilenet_v2'), 70.9, (52, 48.3, 37.0)),
    PublishedRow('V3-Small 1.0', _network('mobilenet_v3_small'), 64.9, (15.5, 14.9, 10.7)),
    PublishedRow('V2 0.35', _network('mobilenet_v2', 0.35), 57.2, (16.7, 15.6, 11.9)),
)
