"""Which part of a PyTorch checkpoint is the network, whatever the training script called it.

Training scripts save dictionaries: the network's state dict beside the optimizer's, under any key, often a second time
as the moving average of the weights (EMA). The averages are taken where there are some, as the scripts evaluate them.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mobilenets_jax.weights.readers.errors import UnreadableFileError
from mobilenets_jax.weights.readers.pickles import Inert
from mobilenets_jax.weights.readers.tensors import Tensor

Tensors = dict[str, Tensor]

# What scripts call the network's part, in the order of preference. Its moving averages come before all of these.
KEYS = (
    *('state_dict', 'model_state_dict', 'model_state', 'model', 'net_state_dict', 'net', 'network', 'module'),
    *('model_weights', 'weights', 'params'),
)
_EMA = re.compile(r'(?:^|_)(ema|swa|avg|averaged?|shadow)(?:_|$)', re.IGNORECASE)
_NO_NETWORK = re.compile('optim|sched|scaler|criterion|loss|metric', re.IGNORECASE)
_WRAPPERS = re.compile(r'^(?:(?:module|_orig_mod|model|net|ema_model|ema|shadow)\.)+')
_DEPTH = 3  # of dictionaries in dictionaries
MAX_MODULES = 100_000  # of a pickled module; one that is used in several places counts each time

# Attributes of timm's training arguments -> keys of its pretrained configs.
_TIMM_ARGUMENTS = {
    'mean': 'mean',
    'std': 'std',
    'input_size': 'input_size',
    'interpolation': 'interpolation',
    'crop_pct': 'crop_pct',
    'crop_mode': 'crop_mode',
}


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The network's part of a checkpoint.

    Attributes:
        tensors: by name.
        module: whether the file holds the whole module, not its state dict.
        notes: which of several parts it is, and which of its entries are not tensors.
        timm: see `Contents.timm`.
    """

    tensors: Tensors
    module: bool
    notes: tuple[str, ...]
    timm: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class _Part:
    """A dictionary of tensors, or a module, somewhere in a checkpoint; `path` are the keys that lead to it."""

    path: tuple[str, ...]
    tensors: Tensors
    module: str | None = None

    @property
    def ema(self) -> bool:
        return any(map(_EMA.search, self.path))

    @property
    def rank(self) -> int:
        """Its place in `KEYS`."""
        names = [_EMA.sub('_', key).strip('_').lower() or KEYS[0] for key in self.path]
        return min((KEYS.index(name) for name in names if name in KEYS), default=len(KEYS))

    def __str__(self) -> str:
        return repr('.'.join(self.path)) if self.path else 'its own level'


def choose(document: Any) -> Chosen:
    """The named tensors of the network in the objects that a file's program builds.

    Raises:
        UnreadableFileError: there are none, or several, and it is not clear which is the network.
    """
    parts = list(_parts(document, (), set()))
    if not parts:
        raise UnreadableFileError(_no_state_dict(document))
    part, notes = _preferred(parts)
    if part.module is not None:
        notes += (
            f'it is a whole pickled module ({part.module}), of which only the tensors were read; '
            'its class may compute something else than the network that has their names.',
        )
    return Chosen(part.tensors, part.module is not None, notes, _timm(document))


def _parts(value: Any, path: tuple[str, ...], seen: set[int]) -> Iterator[_Part]:
    """All dictionaries with kernels among their values, and all modules, each once."""
    if id(value) in seen or len(path) > _DEPTH or (path and _NO_NETWORK.search(path[-1])):
        return
    seen.add(id(value))
    if isinstance(value, Inert) and _is_module(value):
        tensors = dict(_module_tensors(value, '', set(), itertools.count()))
        if _has_kernels(tensors):
            yield _Part(path, tensors, value.name)
    if isinstance(value, dict):
        tensors = {name: item for name, item in value.items() if isinstance(item, Tensor) and isinstance(name, str)}
        if _has_kernels(tensors):
            _check_made_of_tensors(value)
            yield _Part(path, tensors)
        for key, item in value.items():
            if isinstance(key, str):
                yield from _parts(item, (*path, key), seen)


def _has_kernels(tensors: Tensors) -> bool:
    return any(len(tensor.shape) > 1 for tensor in tensors.values())


def _check_made_of_tensors(state_dict: dict) -> None:
    """Raises `UnreadableFileError` where a call that is not known would make a layer's tensor."""
    for name, item in state_dict.items():
        if _is_inert(item) and isinstance(name, str) and '.' in name and '_extra_state' not in name:
            raise UnreadableFileError(f'to make {name}, it would call {item.name}; only tensors are read')


def _preferred(parts: list[_Part]) -> tuple[_Part, tuple[str, ...]]:
    """The part that is the network, and a note on the others."""
    if len(parts) == 1:
        return parts[0], ()
    nested = [part for part in parts if part.path and part.rank < len(KEYS)]
    averages = sorted((part for part in parts if part.ema), key=lambda part: part.rank)
    raw = sorted((part for part in nested if not part.ema), key=lambda part: part.rank)
    ordered = averages or raw
    if not ordered:
        raise UnreadableFileError(
            f'its parts {", ".join(map(str, parts))} hold tensors, and none of them is called like a network '
            f'({", ".join(KEYS)}); save one of them alone'
        )
    part = ordered[0]
    others = ', '.join(str(other) for other in parts if other is not part)
    statistics = _with_statistics(part, raw[0]) if averages and raw else None
    if statistics is not None:
        return statistics, (f'the averages of {part} are taken, with what they lack from {raw[0]}; {others} left out.',)
    return part, (f'the weights of {part} are taken; {others} left out.',)


def _with_statistics(averages: _Part, raw: _Part) -> _Part | None:
    """Averages of the parameters alone, completed by the rest of the network; None where they are complete."""
    averaged = {_WRAPPERS.sub('', name): tensor for name, tensor in averages.tensors.items()}
    network = {_WRAPPERS.sub('', name): tensor for name, tensor in raw.tensors.items()}
    return _Part(averages.path, network | averaged) if averaged.keys() < network.keys() else None


def _is_module(value: Inert) -> bool:
    return isinstance(value.state, dict) and {'_parameters', '_modules'} <= value.state.keys()


def _module_tensors(module: Inert, prefix: str, above: set[int], number: Iterator[int]) -> Iterator[tuple[str, Tensor]]:
    """The state dict of a pickled `torch.nn.Module`, from its attributes."""
    if id(module) in above:
        raise UnreadableFileError('a module holds itself')
    if next(number) >= MAX_MODULES:
        raise UnreadableFileError(f'it has more than {MAX_MODULES} modules')
    for attribute in ('_parameters', '_buffers'):
        for name, item in _items(module.state.get(attribute)):
            if isinstance(item, Tensor):
                yield f'{prefix}{name}', item
            elif _is_inert(item):
                raise UnreadableFileError(f'to make {prefix}{name}, it would call {item.name}; only tensors are read')
    for name, child in _items(module.state.get('_modules')):
        if isinstance(child, Inert) and _is_module(child):
            yield from _module_tensors(child, f'{prefix}{name}.', above | {id(module)}, number)


def _is_inert(item: Any) -> bool:
    return isinstance(item, Inert)


def _items(attribute: Any) -> list[tuple[Any, Any]]:
    return list(attribute.items()) if isinstance(attribute, dict) else []


def _no_state_dict(document: Any) -> str:
    """What there is instead."""
    if isinstance(document, Inert):
        return f'it would call {document.name}; only tensors are read'
    if isinstance(document, Tensor):
        return f'it holds one tensor of shape {list(document.shape)}, no state dict'
    if isinstance(document, dict):
        calls = [f'to make {name!r} it would call {item.name}' for name, item in _items(document) if _is_inert(item)]
        if calls:
            return f'there is no state dict in it, and {calls[0]}; only tensors are read'
        keys = ', '.join(repr(key) for key in list(document)[:5])
        return f'there is no state dict in it: its keys are {keys}' if keys else 'there is no state dict in it'
    return f'there is no state dict in it, but a {type(document).__name__}'


def _timm(document: Any) -> dict[str, Any]:
    """What timm's own training script says of the network and its input."""
    if not isinstance(document, dict) or not isinstance(document.get('arch'), str):
        return {}
    arguments = document.get('args')
    attributes = arguments.state if isinstance(arguments, Inert) and isinstance(arguments.state, dict) else {}
    stated = {key: attributes.get(name) for name, key in _TIMM_ARGUMENTS.items()}
    size = attributes.get('img_size')
    if isinstance(size, int) and not stated['input_size']:
        stated['input_size'] = (3, size, size)
    return {'architecture': document['arch']} | {key: value for key, value in stated.items() if value is not None}
