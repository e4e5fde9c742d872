"""Configs at run time: durations in steps, a view that remembers what was read, and the JSON beside a checkpoint.

The configs themselves are Python files under `configs/`; nothing here imports them.
"""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from mobilenets_jax.buckets import is_bucket
from mobilenets_jax.errors import UserError, check

DURATION_UNITS = ('steps', 'epochs', 'examples', 'percent')


class ConfigView(Mapping):
    """A read-only view of a nested config that remembers which leaves were read, by attribute, key or `**`."""

    def __init__(self, values: Mapping[str, Any], prefix: str = 'config', read: set[str] | None = None):
        self._values = values
        self._prefix = prefix
        self._read = set() if read is None else read

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        path = f'{self._prefix}.{key}'
        if isinstance(value, Mapping):
            return ConfigView(value, path, self._read)
        self._read.add(path)
        return value

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f'{self._prefix} has no field {name!r}') from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def to_dict(self) -> dict[str, Any]:
        """A nested dict of the values; reads none of them."""
        return _plain(self._values)

    def leaves(self) -> dict[str, Any]:
        """The values by dotted path, e.g. 'config.model.name'; reads none of them."""
        return dict(_leaves(self._values, self._prefix))

    def updated(self, fields: Mapping[str, Any]) -> 'ConfigView':
        """The same view, and memory of what was read, with other values at some dotted paths."""
        values = self.to_dict()
        for path, value in fields.items():
            *parents, leaf = path.split('.')
            node = values
            for parent in parents:
                node = node[parent]
            node[leaf] = value
        return ConfigView(values, self._prefix, self._read)

    def unread(self) -> list[str]:
        """The dotted paths of all leaves that nothing has read yet."""
        return [path for path in self.leaves() if path not in self._read]


def check_finite(values: Mapping[str, Any]) -> None:
    """Raises `UserError` naming the first number of a config, by dotted path, that is infinite or not a number."""

    def numbers(value: Any) -> Iterator[float]:
        if isinstance(value, float):
            yield value
        elif isinstance(value, Sequence) and not isinstance(value, str):
            for entry in value:
                yield from numbers(entry)

    for path, value in values.items():
        check(all(map(math.isfinite, numbers(value))), path.removeprefix('config.'), value, 'must be finite')


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f'{prefix}.{key}')
        else:
            yield f'{prefix}.{key}', value


def spellings(name: str) -> tuple[str, ...]:
    """The fields that spell the duration `name`."""
    return tuple(f'{name}_{unit}' for unit in DURATION_UNITS)


def duration(
    values: Mapping[str, Any],
    name: str,
    *,
    batch_size: int,
    examples_per_epoch: int,
    total_steps: int | None = None,
    section: str = '',
) -> int | None:
    """Reads a duration given in one of the spellings `NAME_steps`, `_epochs`, `_examples` or `_percent`.

    Args:
        values: the config node that holds the fields; an absent or None field is not set.
        name: the duration's name, e.g. 'warmup'.
        batch_size: the global batch size.
        examples_per_epoch: size of the training set.
        total_steps: what 100 percent is; None where percent makes no sense.
        section: the section of the config that the node is, e.g. 'schedule'; for messages.

    Returns:
        The duration in whole steps (at least 1 if it is positive), or None if no spelling is set.

    Raises:
        UserError: if two spellings are set, or a value is negative.
    """
    spelled = {unit: values[f'{name}_{unit}'] for unit in DURATION_UNITS if f'{name}_{unit}' in values}
    spelled = {unit: value for unit, value in spelled.items() if value is not None}
    if not spelled:
        return None
    label = f'{section}.{name}' if section else name
    if len(spelled) > 1:
        fields = ' and '.join(f'{label}_{unit}={value}' for unit, value in spelled.items())
        raise UserError(f'{fields} spell one duration twice; set only one of them.')
    ((unit, value),) = spelled.items()
    check(value >= 0, f'{label}_{unit}', value, 'must not be negative')
    steps = {
        'steps': value,
        'epochs': value * examples_per_epoch / batch_size,
        'examples': value / batch_size,
        'percent': value / 100 * (total_steps or 0),
    }[unit]
    return 0 if steps == 0 else max(1, math.floor(steps))


def keep_overriding_spellings(config: Any, overridden: Mapping[str, Any]) -> None:
    """Drops a config file's spelling of a duration where the command line gave another one.

    Args:
        config: a mutable config (`ml_collections.ConfigDict`), changed in place.
        overridden: what the command line set, by dotted path; None unsets a spelling, and replaces no other.
    """
    for path, value in overridden.items():
        if value is None:
            continue
        *parents, field = path.split('.')
        name, _, unit = field.rpartition('_')
        if unit not in DURATION_UNITS:
            continue
        node = config
        for parent in parents:
            node = node[parent]
        for other in DURATION_UNITS:
            sibling = f'{name}_{other}'
            if other != unit and sibling in node and '.'.join([*parents, sibling]) not in overridden:
                node[sibling] = None


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes a local or gs:// file in one move: a reader sees the old file or the new one, never a part."""
    write_bytes(path, text.encode())


def write_bytes(path: epath.PathLike, content: bytes) -> None:
    """Writes `content` as `write_text` does."""
    path = epath.Path(path)
    if is_bucket(path):  # whose objects appear whole
        path.write_bytes(content)
        return
    temporary = path.parent / f'.{path.name}.{os.getpid()}'
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        # The error of a full disk does not name the file.
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write_json(path: epath.PathLike, values: Any) -> None:
    """Writes `values` as `write_text` does."""
    write_text(path, json.dumps(values, indent=2, sort_keys=True) + '\n')


def read_json(path: epath.PathLike) -> Any:
    """What a local or gs:// file of JSON holds.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read, or is no JSON; names the line and the column of the first fault.
    """
    try:
        return json.loads(epath.Path(path).read_bytes().decode('utf-8'))
    except FileNotFoundError:
        raise
    except json.JSONDecodeError as error:
        raise UserError(f'{path}, line {error.lineno}, column {error.colno}: no JSON ({error.msg}).') from error
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line, column = before.count(b'\n') + 1, len(before) - before.rfind(b'\n')
        raise UserError(f'{path}, line {line}, column {column}: no UTF-8, so no JSON.') from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f'{path} cannot be read: {getattr(error, "strerror", None) or error}.') from error
