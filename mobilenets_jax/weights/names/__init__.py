"""Name maps: what each implementation calls the layers of our networks.

A name map is a function from a `Network` to a dict: the path of each of our layers with weights -> the name of the
layer there. It is generated from the order and the names of the network's layers, so that one function serves every
width and every variant of a family.
"""

import dataclasses
from collections.abc import Mapping

from mobilenets_jax.models import list_models
from mobilenets_jax.weights.names import d_li14, keras, model_garden, order, slim, timm, torchvision
from mobilenets_jax.weights.names.naming import NameMap, Names

__all__ = ['NameMap', 'Names', 'SOURCES', 'Source']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """An implementation that names layers.

    Attributes:
        layout: of its files, a key of `layouts.LAYOUTS`.
        convention: whose padding and constants its networks have, unless a card or the user says otherwise.
        other_conventions: tried next, of networks that have them and widths at which they differ.
        maps: architecture -> name map.
    """

    layout: str
    convention: str
    maps: Mapping[str, NameMap]
    other_conventions: tuple[str, ...] = ()


# The authors' code, from which the Model Garden's, slim's and TFLite files come, differs from the paper in one width.
_SCALED = ('model_garden',)
SOURCES = {
    'torchvision': Source(layout='pytorch', convention='torchvision', maps=torchvision.MAPS),
    'timm': Source(layout='pytorch', convention='timm', maps=timm.MAPS),
    'd_li14': Source(layout='pytorch', convention='torchvision', maps=d_li14.MAPS),
    'keras': Source(layout='keras', convention='keras', maps=keras.MAPS),
    'slim': Source(layout='slim', convention='tf', maps=slim.MAPS, other_conventions=_SCALED),
    'model_garden': Source(layout='model_garden', convention='tf', maps=model_garden.MAPS, other_conventions=_SCALED),
    'tflite': Source(
        layout='tflite',
        convention='tf',
        maps=dict.fromkeys(list_models(), order.MAP),
        other_conventions=(*_SCALED, 'keras', 'torchvision', 'timm', 'megvii'),  # a graph says itself how it pads
    ),
}
