"""Which network a file holds: the one whose every layer has its array in the file, and no array is left over."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from mobilenets_jax.errors import UserError, check_choice
from mobilenets_jax.models import create_model, get_architecture, get_spec, list_models
from mobilenets_jax.models.network import ImageClassifier
from mobilenets_jax.models.specs import NetworkSpec
from mobilenets_jax.weights import names
from mobilenets_jax.weights.convert import compare, to_variables
from mobilenets_jax.weights.files import WeightFile
from mobilenets_jax.weights.layouts import LAYOUTS
from mobilenets_jax.weights.names import NameMap
from mobilenets_jax.weights.network import trace
from mobilenets_jax.weights.same_network import DifferentNetworkError, check_outputs, settle

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
        fields: further fields of `create_model`, by name.
    """

    source: str
    name: str
    width_multiplier: float
    convention: str
    fields: tuple[tuple[str, Any], ...] = ()

    def create_model(self, num_classes: int) -> ImageClassifier:
        """The network."""
        return create_model(self.name, num_classes, self.width_multiplier, self.convention, **dict(self.fields))

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
    nearest: tuple[float, Identity, str] | None = None
    for identity, num_classes in _candidates(file, model, convention, width):
        try:
            return _fill(file, identity, num_classes)
        except _DoesNotFitError as error:
            if nearest is None or error.distance < nearest[0]:
                nearest = error.distance, identity, str(error)
    if nearest is None:
        raise UserError(f'weights={path!r} is no known network: {_contents(file)}.')
    _, identity, difference = nearest
    if model is None:
        raise UserError(f'weights={path!r} is no known network. The nearest is {identity}; {difference}.')
    raise UserError(f'weights={path!r} is not {identity}. {difference}.')


def _contents(file: WeightFile) -> str:
    """What a file holds whose first and last layer are those of no network."""
    if file.contents.graph is not None:
        stem, *_, last = file.contents.graph.layers
        ends = f'{len(stem.bias)} channels behind its first and {last.kernel.shape[-1]} before its last layer'
        return f'it has {len(file.contents.graph.layers)} layers with weights, and {ends}, as none of ours'
    shown = ', '.join(f'{name} {list(array.shape)}' for name, array in list(file.arrays.items())[:3])
    return f'it has {len(file.arrays)} arrays, {shown}, ...'


class _DoesNotFitError(ValueError):
    """The file holds another network; `distance` says by how much, 0 for the same weights."""

    def __init__(self, distance: float, difference: str):
        super().__init__(difference)
        self.distance = distance


def _fill(file: WeightFile, identity: Identity, num_classes: int) -> tuple[Identity, ImageClassifier, dict]:
    """The identity, the network and its variables, if the file holds just that network; else `_DoesNotFitError`."""
    layout, graph = LAYOUTS[file.layout], file.contents.graph
    network = trace(identity.name, identity.create_model(num_classes))
    layer_names = names.SOURCES[identity.source].maps[identity.name](network)
    mismatch = compare(network, layer_names, layout, file.arrays)
    if len(mismatch):
        raise _DoesNotFitError(len(mismatch), str(mismatch))
    variables = to_variables(network, layer_names, layout, file.arrays)
    if graph is not None:
        try:
            fields = settle(graph, identity.name, num_classes, identity.width_multiplier, identity.convention)
            identity = dataclasses.replace(identity, fields=tuple(fields.items()))
            settled = trace(identity.name, identity.create_model(num_classes))
            check_outputs(graph, identity.create_model(num_classes), variables, settled.layers)
        except DifferentNetworkError as error:
            raise _DoesNotFitError(0, str(error)) from error
    return identity, identity.create_model(num_classes), variables


def _candidates(
    file: WeightFile, model: str | None, convention: str | None, width: float | None
) -> Iterator[tuple[Identity, int]]:
    """Networks whose first and last layer are in the file with their widths, and their numbers of classes.

    Where `model` is given and nothing fits, the network itself, so that a refusal can say what is wrong.
    """
    tried: list[tuple] = []
    named: list[tuple[Identity, int]] = []
    for source_name, source in names.SOURCES.items():
        if source.layout != file.layout:
            continue
        for name, name_map in source.maps.items():
            if model not in (None, name):
                continue
            ends = _ends(file, name_map)
            num_classes = ends[2] if ends else 1000
            conventions = [convention] if convention else [source.convention, *source.other_conventions]
            for chosen in [chosen for chosen in conventions if chosen in get_architecture(name).conventions]:
                named.append((Identity(source_name, name, width or 1.0, chosen), num_classes))
                for candidate in _widths(name, chosen, ends, width):
                    spec = get_spec(name, candidate, chosen)
                    table = source_name, name, dataclasses.replace(spec, convention=None)
                    if ends and _spec_ends(spec) == ends[:2] and table not in tried:
                        tried.append(table)  # with another convention's name it is the same table
                        yield Identity(source_name, name, candidate, chosen), num_classes
    if model is not None and not tried:
        yield from named


def _widths(name: str, convention: str, ends: tuple[int, int, int] | None, given: float | None) -> list[float]:
    """Those that the network can have: the given, or published and usual ones, and what the file's last layer needs."""

    def exists(width: float) -> bool:
        try:
            return bool(get_spec(name, width, convention))
        except UserError:  # some networks have a least width
            return False

    if given is not None:
        return list(filter(exists, [given]))
    architecture = get_architecture(name)
    published = {width for width, _ in architecture.published}
    asked = {round(ends[1] / _spec_ends(get_spec(name, 1.0, convention))[1], 2)} if ends else set()
    return list(filter(exists, architecture.widths or sorted(published | set(WIDTHS) | asked)))


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
