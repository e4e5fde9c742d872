"""The manifest of prepared records: which shards make up which split, how many examples they hold, and their hashes."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from etils import epath

from mobilenets_jax.config import write_json
from mobilenets_jax.data import fingerprint
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.hashes import sha256

MANIFEST_FILE = 'manifest.json'
FORMAT_VERSION = 1
FILE_FORMATS = ('array_record', 'tfrecord')  # random access, local disks only; a stream, from anywhere


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of records.

    Attributes:
        file: its name in the data set's folder.
        num_examples: how many records it holds, at least one.
        num_bytes: its size.
        sha256: of the whole file, in hexadecimal digits.
    """

    file: str
    num_examples: int
    num_bytes: int
    sha256: str

    @classmethod
    def from_json(cls, place: str, fields: Any) -> 'Shard':
        """A shard as the manifest has it; `UserError` that names the place and the value if it is not valid."""
        fields = _fields(place, fields, [field.name for field in dataclasses.fields(cls)])
        for name, fits, kind in (
            ('file', lambda value: isinstance(value, str) and value and not {'/', '\0'} & {*value}, 'a name of a file'),
            ('num_examples', lambda value: _is_whole(value) and value > 0, 'a positive whole number'),
            ('num_bytes', lambda value: _is_whole(value) and value >= 0, 'a whole number'),
            ('sha256', lambda value: isinstance(value, str), 'a hash'),
        ):
            _require(fits(fields[name]), f'{place}.{name}', fields[name], f'is not {kind}')
        return cls(**fields)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a prepared data set consists of.

    Attributes:
        file_format: of the shards, one of `FILE_FORMATS`.
        class_names: label to name.
        splits: name of a split to its shards.
    """

    file_format: str
    class_names: list[str]
    splits: dict[str, list[Shard]]

    def write(self, directory: str) -> None:
        """Writes the manifest; without it the folder is no data set."""
        write_json(epath.Path(directory) / MANIFEST_FILE, {'version': FORMAT_VERSION, **dataclasses.asdict(self)})

    @classmethod
    def read(cls, directory: str) -> 'Manifest':
        """Reads it back; `UserError` if there is none, or none that this code understands."""
        check(bool(directory), 'data.dir', directory, 'must name the folder of prepared records')
        path = epath.Path(directory) / MANIFEST_FILE
        try:
            fields = json.loads(path.read_text())
        except (FileNotFoundError, NotADirectoryError) as error:
            command = 'python -m mobilenets_jax prepare IMAGE_FOLDER DIRECTORY'
            raise UserError(f'data.dir={directory!r} has no {MANIFEST_FILE}; `{command}` makes one.') from error
        except OSError as error:
            raise UserError(f'{path} cannot be read: {error.strerror or error}.') from error
        except (ValueError, RecursionError) as error:
            raise UserError(f'{path} is no manifest of prepared records: {error}.') from error
        return cls.from_json(f'{path}: ', fields)

    @classmethod
    def from_json(cls, place: str, fields: Any) -> 'Manifest':
        """The manifest in a JSON document; `UserError` that names the place and the value of what does not fit."""
        names = [field.name for field in dataclasses.fields(cls)]
        fields = _fields(place, fields, ['version', *names])
        version, file_format, class_names, splits = (fields[name] for name in ('version', *names))
        _require(version == FORMAT_VERSION, f'{place}version', version, f'is not {FORMAT_VERSION}')
        known = isinstance(file_format, str) and file_format in FILE_FORMATS
        _require(known, f'{place}file_format', file_format, f'is none of {", ".join(FILE_FORMATS)}')
        known = isinstance(class_names, list) and all(isinstance(name, str) for name in class_names)
        several = known and len({*class_names}) == len(class_names) > 1
        _require(several, f'{place}class_names', class_names, 'is no list of different names')
        _require(isinstance(splits, dict) and splits, f'{place}splits', splits, 'holds no splits')
        shards = {}
        for split, listed in splits.items():
            _require(isinstance(listed, list) and listed, f'{place}splits.{split}', listed, 'is no list of shards')
            shards[split] = [
                Shard.from_json(f'{place}splits.{split}[{number}]', shard) for number, shard in enumerate(listed)
            ]
        return cls(file_format, class_names, shards)

    def fingerprint(self, split: str) -> fingerprint.Fingerprint:
        """The fingerprint of a split."""
        shards = self.splits[split]
        return fingerprint.condensed(
            [fingerprint.of_facts(f'shard {shard.file}', shard.num_examples, shard.sha256) for shard in shards]
        )

    def check_sizes(self, directory: str) -> None:
        """Raises `UserError` naming the first shard that is missing or has another size than when it was written."""
        for shards in self.splits.values():
            for shard in shards:
                path = epath.Path(directory) / shard.file
                try:
                    size = path.stat().length
                except OSError as error:
                    raise UserError(f'{path} cannot be read: {error.strerror}.') from error
                if size != shard.num_bytes:
                    raise UserError(f'{path} has {size} bytes, but should have {shard.num_bytes}.')

    def check_hashes(self, directory: str) -> None:
        """Raises `UserError` naming the first shard whose bytes are not those that were written."""
        self.check_sizes(directory)
        for shards in self.splits.values():
            for shard in shards:
                path = epath.Path(directory) / shard.file
                if sha256(path) != shard.sha256:
                    raise UserError(f'{path} has changed since it was written: its SHA-256 is another.')


def _fields(place: str, fields: Any, names: Sequence[str]) -> dict[str, Any]:
    """The fields of an object in a JSON document, which has these and no others."""
    place = place.removesuffix(': ')
    _require(isinstance(fields, dict), place, fields, 'is no part of a manifest of prepared records')
    missing, unknown = [name for name in names if name not in fields], [name for name in fields if name not in names]
    if missing or unknown:
        wrong = f'lacks {missing[0]!r}' if missing else f'has {unknown[0]!r}'
        raise UserError(f'{place} is no manifest of prepared records: it {wrong}.')
    return fields


def _require(condition: Any, place: str, value: Any, requirement: str) -> None:
    """Raises `UserError` as `check` does; of a long value only the beginning is shown."""
    if not condition:
        text = repr(value)
        raise UserError(f'{place}={text if len(text) <= 60 else text[:60] + "..."} {requirement}.')


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
