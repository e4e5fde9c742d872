"""Networks whose table is a JSON file: found by a search, or written by hand.

The file has a `name` and the fields of `specs.NetworkSpec`, with rows of `specs.BlockSpec` and a convention of
`scaling.ScalingConvention`; what it leaves out has the default of these classes. Once it is read it is an
`Architecture` like the published ones: other widths, paddings and constants follow from its table by the same rules.
"""

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from etils import epath

from mobilenets_jax.errors import UserError, check, check_choice
from mobilenets_jax.models.architecture import Architecture
from mobilenets_jax.models.scaling import ScalingConvention, scale
from mobilenets_jax.models.specs import BlockSpec, NetworkSpec
from mobilenets_jax.ops import ACTIVATIONS

# The blocks that a `BlockSpec` describes; those of the other families have rows of their own.
BLOCK_NAMES = ('dense_conv', 'dense_inverted_residual', 'depthwise_separable', 'inverted_residual')
NAME = 'name'
TABLE_CONVENTION = 'tf'  # the name of the table's own convention, as of every architecture's first one

# The classes of fields whose declared type is more general.
_CLASSES: dict[tuple[Any, str], Any] = {
    (NetworkSpec, 'blocks'): tuple[BlockSpec, ...],
    (NetworkSpec, 'convention'): ScalingConvention,
}
_CHOICES = {'kind': BLOCK_NAMES, 'activation': ACTIVATIONS, 'gate': ACTIVATIONS, 'head_activation': ACTIVATIONS}
_PLAIN = {int: 'an integer', float: 'a number', bool: 'true or false', str: 'a string'}


def to_text(name: str, spec: NetworkSpec) -> str:
    """The canonical text of a network's table: of two equal tables it is the same.

    Args:
        name: of the network.
        spec: with rows of `BlockSpec` and a `ScalingConvention`.

    Raises:
        UserError: the network has other rows or another convention.
    """
    fits = isinstance(spec.convention, ScalingConvention)
    fits = fits and all(isinstance(row, BlockSpec) and row.kind in BLOCK_NAMES for row in spec.blocks)
    check(fits, 'model.name', name, 'has rows of its own family, which no file of a table has')
    return json.dumps({NAME: name, **_to_json(spec)}, sort_keys=True, separators=(',', ':'))


def _to_json(value: Any) -> Any:
    if isinstance(value, ScalingConvention):  # what a family's convention has beside these fields built the table
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(ScalingConvention)}
    if dataclasses.is_dataclass(value):
        return {field.name: _to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [_to_json(row) for row in value] if isinstance(value, tuple) else value


@functools.lru_cache(maxsize=64)
def architecture_of(text: str, source: str = 'model.table') -> Architecture:
    """The network of a table's text.

    Args:
        text: JSON, see the module's docstring.
        source: what messages call it.

    Raises:
        UserError: the text is no table of a network; names the field and the known ones.
    """
    try:
        values = json.loads(text, object_pairs_hook=functools.partial(_once, source))
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f'{source} is no JSON: {error}.') from error
    if not isinstance(values, Mapping):
        raise UserError(f'{source} holds no table, which is an object with a name, a stem and blocks.')
    values = dict(values)
    name = values.pop(NAME, None)
    if not isinstance(name, str) or not name:
        raise UserError(f'{source}: {NAME}={name!r} must be a string, which names the network.')
    spec = _read(NetworkSpec, values, source, '')
    _check_computed(spec, source)
    _check_scales(spec, source)
    return Architecture(
        name=name,
        build=functools.partial(_build, spec),
        conventions={TABLE_CONVENTION: spec.convention},
    )


def _once(source: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which each field may occur only once."""
    values = dict(pairs)
    names = [name for name, _ in pairs]
    check(len(values) == len(names), f'{source}: fields', names, 'must be named once each')
    return values


def canonical(text: str, source: str) -> tuple[str, str]:
    """The name and the canonical text of a table as `architecture_of` reads it."""
    found = architecture_of(text, source)
    return found.name, to_text(found.name, found.resolve(1.0, TABLE_CONVENTION))


def read_table(path: str, source: str) -> tuple[str, str]:
    """The name and the canonical text of the table in a file, local or gs://; `source` is what messages call it.

    Raises:
        UserError: the file cannot be read, or holds no table of a network.
    """
    try:
        text = epath.Path(path).expanduser().read_text()
    except (OSError, ValueError) as error:
        raise UserError(f'{source} cannot be read: {getattr(error, "strerror", None) or error}.') from error
    return canonical(text, source)


def _build(table: NetworkSpec, width_multiplier: float, convention: ScalingConvention) -> NetworkSpec:
    return scale(table, width_multiplier, convention)


def _check_computed(spec: NetworkSpec, source: str) -> None:
    """Raises `UserError` if the network would not compute the table."""
    check(bool(spec.blocks), f'{source}: blocks', [], 'must have a row at least')
    check_choice(f'{source}: stem.stride', spec.stem.stride, (1, 2))
    check(spec.stem.kernel_size % 2 == 1, f'{source}: stem.kernel_size', spec.stem.kernel_size, 'must be odd')
    head = spec.head_conv
    pointwise = head is None or (head.kernel_size, head.stride) == (1, 1)
    check(pointwise, f'{source}: head_conv', _to_json(head), 'must have kernel_size=1 and stride=1')
    check(spec.pre_logits is None or head is not None, f'{source}: pre_logits', spec.pre_logits, 'needs a head_conv')
    convention = spec.convention
    decays = 0 <= convention.bn_momentum < 1
    check(decays, f'{source}: convention.bn_momentum', convention.bn_momentum, 'must be in [0, 1)')
    check(convention.bn_epsilon > 0, f'{source}: convention.bn_epsilon', convention.bn_epsilon, 'must be positive')
    width = spec.stem.channels
    for index, row in enumerate(spec.blocks):
        _check_row(row, width, f'{source}: blocks[{index}]')
        width = row.out_channels


def _check_row(row: BlockSpec, width: int, label: str) -> None:
    """Raises `UserError` if a row sets a property that its block, with an input of `width` channels, does not have."""
    of_kind = f'in a block of the kind {row.kind!r}'
    middle = {'depthwise_separable': width, 'dense_conv': row.out_channels}.get(row.kind, row.expanded)
    check(row.expanded == middle, f'{label}.expanded', row.expanded, f'must be {middle} {of_kind}')
    if row.kind == 'depthwise_separable':
        check(not row.residual_pool, f'{label}.residual_pool', row.residual_pool, f'has no effect {of_kind}')
    if row.kind == 'dense_inverted_residual':
        squeeze = _to_json(row.squeeze_excite)
        check(squeeze is None, f'{label}.squeeze_excite', squeeze, f'has no effect {of_kind}')
        strides = row.stride == 1 or row.expanded != width
        check(strides, f'{label}.stride', row.stride, f'has no effect {of_kind} without expansion')


def _check_scales(spec: NetworkSpec, source: str) -> None:
    """Raises `UserError` where the table's own convention would not give its widths back at width 1.0."""
    convention = spec.convention
    assert isinstance(convention, ScalingConvention)  # `_CLASSES`
    scaled = scale(spec, 1.0, convention)
    for path, width, kept in zip(*_widths(spec), _widths(scaled)[1], strict=True):
        if width != kept:
            raise UserError(
                f'{source}: {path}={width} would become {kept} by its convention, with '
                f'divisor={convention.divisor}; give it a convention that keeps its widths.'
            )


def _widths(spec: NetworkSpec) -> tuple[list[str], list[int | None]]:
    """All channel counts of a table, with their names."""
    named: dict[str, int | None] = {'stem.channels': spec.stem.channels}
    for index, row in enumerate(spec.blocks):
        named |= {f'blocks[{index}].{field}': getattr(row, field) for field in ('expanded', 'out_channels')}
    head = spec.head_conv
    named |= {'head_conv.channels': None if head is None else head.channels, 'pre_logits': spec.pre_logits}
    return list(named), list(named.values())


def _read(kind: Any, value: Any, source: str, path: str) -> Any:
    """`value`, as JSON has it, as an instance of the type `kind`; `path` is the dotted path of its field."""
    if isinstance(kind, types.UnionType):
        if value is None and type(None) in kind.__args__:
            return None
        kind = next(choice for choice in kind.__args__ if choice is not type(None))
    if typing.get_origin(kind) is tuple:
        check(isinstance(value, list), f'{source}: {path}', value, 'must be a list')
        row = typing.get_args(kind)[0]
        return tuple(_read(row, entry, source, f'{path}[{index}]') for index, entry in enumerate(value))
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return _read_plain(kind, value, source, path)
    check(isinstance(value, Mapping), f'{source}: {path}', value, 'must be an object')
    hints, fields = typing.get_type_hints(kind), {field.name: field for field in dataclasses.fields(kind)}
    prefix = f'{path}.' if path else ''
    for name in value:
        check_choice(f'{source}: field of {path or "the table"}', name, fields)
    for name, field in fields.items():
        check(name in value or _has_default(field), f'{source}: {prefix}{name}', None, 'is missing')
    read = {
        name: _read(_CLASSES.get((kind, name), hints[name]), entry, source, f'{prefix}{name}')
        for name, entry in value.items()
    }
    try:
        return kind(**read)
    except UserError as error:
        raise UserError(f'{source}: {prefix}{error}') from error


def _read_plain(kind: type, value: Any, source: str, path: str) -> Any:
    """A number, a string or a truth value; whole and positive where it counts something."""
    label, field = f'{source}: {path}', path.rpartition('.')[2]
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    check(fits, label, value, f'must be {_PLAIN[kind]}')
    if field in _CHOICES:
        check_choice(label, value, _CHOICES[field])
    if kind is int:
        check(value > 0, label, value, 'must be positive')
    if kind is float:
        check(math.isfinite(value), label, value, 'must be finite')
    return value


def _has_default(field: dataclasses.Field) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
