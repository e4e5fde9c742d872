"""Which network a file holds: the one whose every layer has its array in the file, and no array is left over."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from mobilenets_jax.errors import UserError, check_choice
from mobilenets_jax.heads import Detector, Segmenter, create_detector, create_segmenter
from mobilenets_jax.identity import CLASSIFICATION, DETECTION, SEGMENTATION
from mobilenets_jax.models import create_model, get_architecture, get_spec, list_models
from mobilenets_jax.models.network import ImageClassifier
from mobilenets_jax.models.specs import RECTIFIERS, NetworkSpec
from mobilenets_jax.weights import detectors, names, segmenters
from mobilenets_jax.weights.convert import compare, to_variables
from mobilenets_jax.weights.files import WeightFile
from mobilenets_jax.weights.foreign import describe
from mobilenets_jax.weights.heads import classifier
from mobilenets_jax.weights.layouts import LAYOUTS
from mobilenets_jax.weights.names import NameMap, detection, segmentation
from mobilenets_jax.weights.network import Network, trace
from mobilenets_jax.weights.same_network import DifferentNetworkError, check_outputs, settle

MAX_FOREIGN = 0.2  # of a file's arrays: where more have other names than a network's, it is another one
# Tried in addition to the widths that papers publish.
WIDTHS = (0.1, 0.25, 0.35, 0.5, 0.75, 1.0, 1.1, 1.25, 1.3, 1.4, 1.5, 2.0)
RARE_WIDTHS = (0.15, 0.2, 0.3, 0.4, 0.45, 0.6, 0.65, 0.7, 0.8, 0.85, 0.9, 1.2, 1.6, 1.75, 1.8)


FileNetwork = ImageClassifier | Segmenter | Detector
_CREATE = {CLASSIFICATION: create_model, SEGMENTATION: create_segmenter, DETECTION: create_detector}
# Of tasks whose networks have heads of several layers: what to try, and the names of the layers.
_CANDIDATES = {SEGMENTATION: segmenters.candidates, DETECTION: detectors.candidates}
_HEAD_NAMES = {SEGMENTATION: segmentation.MAPS, DETECTION: detection.MAPS}


def task_of(file: WeightFile) -> str:
    """What the network of a file is for."""
    if file.contents.graph is not None:
        return file.contents.graph.task
    if file.layout != 'pytorch':
        return CLASSIFICATION
    if detectors.is_detector(file):
        return DETECTION
    return SEGMENTATION if segmenters.is_segmenter(file) else CLASSIFICATION


@dataclasses.dataclass(frozen=True)
class Identity:
    """A network and whose names its weights have.

    Attributes:
        source: a key of `names.SOURCES`.
        name: of the architecture.
        width_multiplier: of it.
        convention: of it.
        fields: further fields of `create_model`, `create_segmenter` or `create_detector`, by name.
        task: of the network.
        head: of a segmentation network or detector, see `create_segmenter` and `create_detector`; None of a classifier.
    """

    source: str
    name: str
    width_multiplier: float
    convention: str
    fields: tuple[tuple[str, Any], ...] = ()
    task: str = CLASSIFICATION
    head: str | None = None

    @property
    def name_in_source(self) -> str:
        """The architecture and whose names its weights have, whatever the width."""
        return f'{self.source} {self.name}'

    def create_model(self, num_classes: int, **fields) -> FileNetwork:
        """The network, with `fields` in addition to its own."""
        create = _CREATE[self.task]
        fields = {**self.all_fields, **fields}
        return create(
            self.name,
            num_classes,
            width_multiplier=self.width_multiplier,
            convention=self.convention,
            **fields,
        )

    @property
    def all_fields(self) -> dict[str, Any]:
        """Arguments of the function that creates it, other than name, width, convention and number of classes."""
        fields = dict(self.fields)
        if self.head is None:
            return fields
        return {**fields, 'head': self.head, 'head_fields': dict(fields.get('head_fields', ()))}

    def layer_names(self, network: Network, logits: str | None) -> names.Names:
        """What the source calls the network's layers; `logits` is the file's name for a classifier's last one."""
        if self.head is not None:
            return _HEAD_NAMES[self.task][self.source](network)
        return names.SOURCES[self.source].maps[self.name](network) | {'logits': logits}

    def __str__(self) -> str:
        head = '' if self.head is None else f' with {self.head}'
        return f'{self.name} {self.width_multiplier:g} ({self.convention}){head} as {self.source} names it'


def identify(
    file: WeightFile,
    path: str,
    *,
    model: str | None = None,
    convention: str | None = None,
    width: float | None = None,
    new_head: bool = False,
) -> tuple[Identity, FileNetwork, dict]:
    """Finds the network of a file and gives it its weights.

    Args:
        file: its arrays.
        path: for messages.
        model: the architecture, if it is known.
        convention: of the padding and constants of the network; None: that of the implementation that named the layers.
        width: the width multiplier, if it is known.
        new_head: whether a file without a classifier, or with one of several layers, will do: the network has one
            class and zeros there then.

    Returns:
        The identity, the model with the file's number of classes, and its variables (NumPy, float32).

    Raises:
        UserError: no network fits; the message lists the missing and the left-over layers of the nearest one.
    """
    if model is not None:
        check_choice('model.name', model, list_models())
    nearest: tuple[Identity, _DoesNotFitError] | None = None
    foreign: set[str] = set()  # architectures with other names, as they then have at every width
    for identity, head in _candidates(file, model, convention, width):
        if identity.width_multiplier in RARE_WIDTHS and identity.name_in_source in foreign:
            continue
        try:
            found = _fill(file, identity, head)
        except _DoesNotFitError as error:
            if error.foreign:
                foreign.add(identity.name_in_source)
            if nearest is None or error.distance < nearest[1].distance:
                nearest = identity, error
            continue
        if file.contents.backbone_fault is not None:
            raise UserError(f'weights={path!r} has the weights of {identity}, but {file.contents.backbone_fault}.')
        if head.name is None and not new_head:
            raise UserError(f'weights={path!r} is {identity}, but {head}.')
        return found
    named = file.contents.graph is None  # the layers of a graph have no names
    if nearest is None or (model is None and named and nearest[1].foreign > MAX_FOREIGN * len(file.arrays)):
        reason = (nearest is None and _unknown_ends(file)) or describe(file.arrays)
        raise UserError(f'weights={path!r} is no known network: {reason}.')
    identity, difference = nearest
    what = f'not {identity}' if model is not None else f'no known network. The nearest is {identity}'
    fault = f'{file.contents.backbone_fault}; ' if file.contents.backbone_fault else ''
    raise UserError(f'weights={path!r} is {what}; {fault}{difference}.')


class _DoesNotFitError(ValueError):
    """The file holds another network.

    Attributes:
        distance: by how many arrays; 0 where the weights are the same.
        foreign: how many of them have names that the network has not.
    """

    def __init__(self, difference: str, distance: int = 0, foreign: int = 0):
        super().__init__(difference)
        self.distance, self.foreign = distance, foreign


def _fill(file: WeightFile, identity: Identity, head: '_Head') -> tuple[Identity, FileNetwork, dict]:
    """The identity, the network and its variables, if the file holds just that network; else `_DoesNotFitError`."""
    layout, graph = LAYOUTS[file.layout], file.contents.graph
    model = identity.create_model(head.num_classes)
    network = trace(identity.name, model)
    layer_names = identity.layer_names(network, head.name)
    arrays = {name: array for name, array in file.arrays.items() if not name.startswith(head.left_out)}
    mismatch = compare(network, layer_names, layout, arrays)
    if len(mismatch):
        raise _DoesNotFitError(str(mismatch), len(mismatch), mismatch.foreign)
    variables = to_variables(network, layer_names, layout, arrays)
    if identity.task == DETECTION:
        variables = detection.with_our_codes(identity.source, variables)
    if graph is None:
        identity = _with_rectifier(identity, network, file.contents.rectifier)
        return identity, identity.create_model(head.num_classes), variables
    try:
        fields = settle(graph, identity.name, functools.partial(identity.create_model, head.num_classes))
        identity = dataclasses.replace(identity, fields=(*identity.fields, *fields.items()))
        model = identity.create_model(head.num_classes)
        check_outputs(graph, model, variables, trace(identity.name, model).layers)
    except DifferentNetworkError as error:
        raise _DoesNotFitError(str(error)) from error
    return identity, model, variables


def _with_rectifier(identity: Identity, network: Network, stated: str | None) -> Identity:
    """`identity` with the file's ReLU or ReLU6, where the network's table has the other one."""
    own = {layer.activation for layer in network.layers if layer.activation in RECTIFIERS}
    changed = stated is not None and own not in (set(), {stated})
    return dataclasses.replace(identity, fields=(('activation', stated),)) if changed else identity


@dataclasses.dataclass(frozen=True)
class _Head:
    """What a file has of a classifier.

    Attributes:
        layers: of the file.
        name: of its only layer, or None.
        num_classes: of it; 1 if there is none.
        fault: why it cannot be taken, where the reader knows.
    """

    layers: tuple[str, ...]
    name: str | None
    num_classes: int
    fault: str | None = None

    @property
    def left_out(self) -> tuple[str, ...]:
        """What the names of arrays begin with that have no place in the network."""
        return () if self.name else tuple(f'{layer}{mark}' for layer in self.layers for mark in './')

    def __str__(self) -> str:
        layers = f'{len(self.layers)} layers ({", ".join(self.layers)})'
        several = f'its classifier has {layers} where the network has one'
        what = self.fault or (several if self.layers else 'it has no classifier')
        return f'{what}: num_classes=N of load_pretrained, or new_head=True of a training run, gives it a new one'


def _candidates(
    file: WeightFile, model: str | None, convention: str | None, width: float | None
) -> Iterator[tuple[Identity, _Head]]:
    """Networks whose first and last layer are in the file with their widths, and what there is of their classifier.

    Where nothing fits, those with the first layer alone, so that a refusal can say what is wrong; where `model` is
    given and nothing fits, the network itself.
    """
    if task_of(file) != CLASSIFICATION:
        yield from _with_heads(file, model, convention, width)
        return
    fitting: list[tuple[Identity, _Head]] = []
    others: list[tuple[Identity, _Head]] = []
    named: list[tuple[Identity, _Head]] = []
    tables: list[tuple] = []  # another convention with the same table holds the same weights
    for source_name, source in names.SOURCES.items():
        if source.layout != file.layout:
            continue
        for name, name_map in source.maps.items():
            if model not in (None, name):
                continue
            stem = _stem(file, name_map)
            head, head_channels = _head(file, name_map)
            conventions = [convention] if convention else [source.convention, *source.other_conventions]
            for chosen in [chosen for chosen in conventions if chosen in get_architecture(name).conventions]:
                named.append((Identity(source_name, name, width or 1.0, chosen), head))
                for candidate in [width] if width else _widths(name):
                    identity = Identity(source_name, name, candidate, chosen)
                    spec = _spec(identity)
                    table = spec and (source_name, name, dataclasses.replace(spec, convention=None))
                    if spec is None or stem is None or stem.shape[-1] != spec.stem.channels or table in tables:
                        continue
                    tables.append(table)
                    fits = head_channels in (None, _channels_before_logits(spec))
                    (fitting if fits else others).append((identity, head))
    fitting.sort(key=lambda item: item[0].width_multiplier in RARE_WIDTHS)
    if model is not None:
        others = named
    yield from fitting or (others if file.contents.graph is None or model is not None else ())


def _with_heads(
    file: WeightFile, model: str | None, convention: str | None, width: float | None
) -> Iterator[tuple[Identity, _Head]]:
    task = task_of(file)
    for found in _CANDIDATES[task](file):
        asked = zip((model, convention, width), (found.name, found.convention, found.width_multiplier), strict=True)
        if all(one in (None, other) for one, other in asked):
            identity = Identity(
                found.source, found.name, found.width_multiplier, found.convention, found.fields, task, found.head
            )
            yield identity, _Head((found.logits,), found.logits, found.num_classes)


def _widths(name: str) -> list[float]:
    architecture = get_architecture(name)
    published = {width for width, _ in architecture.published}
    return list(architecture.widths or (*sorted(published), *sorted({*WIDTHS} - published), *RARE_WIDTHS))


def _head(file: WeightFile, name_map: NameMap) -> tuple[_Head, int | None]:
    """What the file has of a classifier, and the channels before it; None where there is no classifier of one layer."""
    layers, fault = classifier(file, name_map), file.contents.classifier_fault
    if len(layers) == 1 and fault is None:
        kernel = _kernel(file, f'{layers[0]}{LAYOUTS[file.layout].suffixes["dense"]["kernel"]}', 'dense')
        if kernel is not None:
            return _Head(layers, layers[0], kernel.shape[-1]), kernel.shape[-2]
    return _Head(layers, None, 1, fault), None


def _unknown_ends(file: WeightFile) -> str | None:
    """What is wrong with a file whose first layer is that of a known network, but not the channels of both ends."""
    if file.contents.graph is not None:
        layers = file.contents.graph.layers
        ends = (
            f'{len(layers[0].bias)} channels behind its first and {layers[-1].kernel.shape[-1]} before its last layer'
        )
        return f'it has {len(layers)} layers with weights, and {ends}, as none of ours'
    sources = [(name, source) for name, source in names.SOURCES.items() if source.layout == file.layout]
    stems = {name_map.stem: name for name, source in sources for name_map in source.maps.values()}
    for stem, source in stems.items():
        kernel = file.arrays.get(f'{stem}{LAYOUTS[file.layout].suffixes["conv"]["kernel"]}')
        if kernel is not None:
            return f'its first layer, {stem} as {source} names it, is {list(kernel.shape)}, as at no known width'
    return None


def _stem(file: WeightFile, name_map: NameMap) -> np.ndarray | None:
    return _kernel(file, f'{name_map.stem}{LAYOUTS[file.layout].suffixes["conv"]["kernel"]}', 'conv')


def _kernel(file: WeightFile, key: str, kind: str) -> np.ndarray | None:
    array = file.arrays.get(key)
    return None if array is None or array.ndim not in (2, 4) else LAYOUTS[file.layout].kernel(array, kind)


def _spec(identity: Identity) -> NetworkSpec | None:
    """The network's table; None for a width that the architecture does not have."""
    try:
        return get_spec(identity.name, identity.width_multiplier, identity.convention)
    except UserError:
        return None


def _channels_before_logits(spec: NetworkSpec) -> int:
    return spec.pre_logits or (spec.head_conv.channels if spec.head_conv else spec.blocks[-1].out_channels)
