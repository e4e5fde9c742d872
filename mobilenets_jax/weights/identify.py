"""Which network a file holds: the one whose every layer has its array in the file, and no array is left over."""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from mobilenets_jax.errors import UserError, check_choice
from mobilenets_jax.models import create_model, get_architecture, get_spec, list_models
from mobilenets_jax.models.network import ImageClassifier
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.weights import names
from mobilenets_jax.weights.convert import Mismatch, compare, to_variables
from mobilenets_jax.weights.files import WeightFile
from mobilenets_jax.weights.layouts import LAYOUTS
from mobilenets_jax.weights.names import NameMap
from mobilenets_jax.weights.network import trace

# Tried beside the widths that papers publish.
WIDTHS = (0.1, 0.25, 0.35, 0.5, 0.75, 1.0, 1.1, 1.25, 1.3, 1.4, 1.5, 2.0)


@dataclasses.dataclass(frozen=True)
class Identity:
    """A network and whose names its weights have.

    Attributes:
        source: a key of `names.SOURCES`.
        name: of the architecture.
        width_multiplier: of it.
        convention: of it.
    """

    source: str
    name: str
    width_multiplier: float
    convention: str

    def create_model(self, num_classes: int) -> ImageClassifier:
        """The network."""
        return create_model(self.name, num_classes, self.width_multiplier, self.convention)

    def __str__(self) -> str:
        return f'{self.name} {self.width_multiplier:g} ({self.convention}) as {self.source} names it'


def identify(
    file: WeightFile, path: str, *, model: str | None = None, convention: str | None = None, width: float | None = None
) -> tuple[Identity, ImageClassifier, dict]:
    """Finds the network of a file and gives it its weights.

    Args:
        file: its arrays.
        path: for messages.
        model: the architecture, if it is known.
        convention: whose padding and constants the network has; None is that of whoever named the layers.
        width: the width multiplier, if it is known.

    Returns:
        The identity, the model with the file's number of classes, and its variables (NumPy, float32).

    Raises:
        UserError: no network fits; the message lists what the nearest one misses and what it leaves over.
    """
    if model is not None:
        check_choice('model.name', model, list_models())
    layout = LAYOUTS[file.layout]
    nearest: tuple[Identity, Mismatch] | None = None
    for identity, num_classes in _candidates(file, model, convention, width):
        network_model = identity.create_model(num_classes)
        network = trace(identity.name, network_model)
        layer_names = names.SOURCES[identity.source].maps[identity.name](network)
        mismatch = compare(network, layer_names, layout, file.arrays)
        if not len(mismatch):
            return identity, network_model, to_variables(network, layer_names, layout, file.arrays)
        if nearest is None or len(mismatch) < len(nearest[1]):
            nearest = identity, mismatch
    if nearest is None:
        shown = ', '.join(f'{name} {list(array.shape)}' for name, array in list(file.arrays.items())[:3])
        raise UserError(f'weights={path!r} is no known network: it has {len(file.arrays)} arrays, {shown}, ...')
    raise UserError(f'weights={path!r} is not {nearest[0]}. {nearest[1]}.')


def _candidates(
    file: WeightFile, model: str | None, convention: str | None, width: float | None
) -> Iterator[tuple[Identity, int]]:
    """Networks whose first and last layer are in the file with their widths, and their numbers of classes.

    Where `model` is given and nothing fits, the network itself, so that a refusal can say what is wrong.
    """
    found = False
    named: list[tuple[Identity, int]] = []
    for source_name, source in names.SOURCES.items():
        if source.layout != file.layout:
            continue
        for name, name_map in source.maps.items():
            conventions = [convention] if convention else [source.convention, *source.other_conventions]
            conventions = [chosen for chosen in conventions if chosen in get_architecture(name).conventions]
            if model not in (None, name) or not conventions:
                continue
            ends = _ends(file, name_map)
            num_classes = ends[2] if ends else 1000
            named.append((Identity(source_name, name, width or 1.0, conventions[0]), num_classes))
            for chosen, candidate in itertools.product(conventions, [width] if width else _widths(name)):
                if ends and _spec_ends(get_spec(name, candidate, chosen)) == ends[:2]:
                    found = True
                    yield Identity(source_name, name, candidate, chosen), num_classes
    if model is not None and not found:
        yield from named


def _widths(name: str) -> list[float]:
    architecture = get_architecture(name)
    published = {width for width, _ in architecture.published}
    return list(architecture.widths or sorted(published | set(WIDTHS)))


def _ends(file: WeightFile, name_map: NameMap) -> tuple[int, int, int] | None:
    """Channels of the stem, channels before the logits, and classes; None where the file has no such layers."""
    layout = LAYOUTS[file.layout]
    stem = _kernel(file, f'{name_map.stem}{layout.suffixes["conv"]["kernel"]}', 'conv')
    logits = _kernel(file, f'{name_map.logits}{layout.suffixes["dense"]["kernel"]}', 'dense')
    return None if stem is None or logits is None else (stem.shape[-1], *logits.shape[-2:])


def _kernel(file: WeightFile, key: str, kind: str) -> np.ndarray | None:
    array = file.arrays.get(key)
    return None if array is None or array.ndim not in (2, 4) else LAYOUTS[file.layout].kernel(array, kind)


def _spec_ends(spec: NetworkSpec) -> tuple[int, int]:
    head = spec.head_conv.channels if spec.head_conv else spec.blocks[-1].out_channels
    return spec.stem.channels, spec.pre_logits or head
