"""The manifest of prepared records: which shards make up which split, how many examples they hold, and their hashes."""

import dataclasses
import json

from etils import epath

from mobilenets_jax.config import write_json
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.hashes import sha256

MANIFEST_FILE = 'manifest.json'
FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of records.

    Attributes:
        file: its name in the data set's folder.
        num_examples: how many records it holds.
        num_bytes: its size.
        sha256: of the whole file, in hexadecimal digits.
    """

    file: str
    num_examples: int
    num_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a prepared data set consists of.

    Attributes:
        file_format: of the shards, see `shards.FILE_FORMATS`.
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
            version = fields.pop('version')
            check(version == FORMAT_VERSION, f'version of {path}', version, f'is not {FORMAT_VERSION}')
            splits = {name: [Shard(**shard) for shard in shards] for name, shards in fields.pop('splits').items()}
            return cls(splits=splits, **fields)
        except OSError as error:
            command = 'python -m mobilenets_jax prepare IMAGE_FOLDER DIRECTORY'
            raise UserError(f'data.dir={directory!r} has no {MANIFEST_FILE}; `{command}` makes one.') from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f'{path} is no manifest of prepared records.') from error

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
