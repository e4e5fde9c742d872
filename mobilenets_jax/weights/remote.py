"""Weight files in a bucket: their readers take local files alone, so a file is copied before it is read."""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator

from etils import epath

from mobilenets_jax.buckets import is_bucket
from mobilenets_jax.errors import UserError, one_line
from mobilenets_jax.weights.readers.errors import MAX_WEIGHTS_BYTES
from mobilenets_jax.weights.timm_facts import CONFIG


@contextlib.contextmanager
def local_file(path: str) -> Iterator[pathlib.Path]:
    """A local weight file: `path` itself, or of a bucket's a copy that is deleted when the context is left.

    Args:
        path: a file, or the prefix of a TensorFlow checkpoint; local, or such as gs://.

    Raises:
        UserError: there is no such file, or it cannot be copied; errors of the copy name `path`.
    """
    if not is_bucket(path):
        yield pathlib.Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder, path.rpartition('/')[2])
        try:
            files = _files(epath.Path(path))
            if not files:
                raise UserError(f'weights={path!r}: there is no such file or checkpoint.')
            for file in files:
                _copy(file, copy.with_name(file.name))
        except UserError:
            raise
        except Exception as error:  # each kind of bucket has its own
            cause = one_line(error)
            raise UserError(f'weights={path!r} cannot be read: {cause:.300}.') from error
        try:
            yield copy
        except UserError as error:
            raise UserError(str(error).replace(str(copy), path)) from error


def _files(path: epath.Path) -> list[epath.Path]:
    """The file, or those of a TensorFlow checkpoint, and timm's config next to it; [] if there is no such file."""
    prefix = path.with_name(path.name.removesuffix('.index'))
    index, config = prefix.with_name(f'{prefix.name}.index'), path.with_name(CONFIG)
    beside = [config] if config.exists() else []
    if index.exists():
        return [index, *path.parent.glob(f'{prefix.name}.data-*'), *beside]
    return [path, *beside] if path.exists() and not path.is_dir() else []


def _copy(source: epath.Path, target: pathlib.Path) -> None:
    length = source.stat().length
    if length > MAX_WEIGHTS_BYTES:
        raise UserError(f'weights={str(source)!r} has {length} bytes; at most {MAX_WEIGHTS_BYTES} are read.')
    target.write_bytes(source.read_bytes())
