"""The hash manifest of a checkpoint, by which a damaged file is found before it is restored.

Orbax (0.12) restores wrong values from a data file with a flipped bit without an error: array bytes carry no checksum.
"""

import json
import os
from collections.abc import Iterator

from etils import epath

from mobilenets_jax.buckets import is_bucket
from mobilenets_jax.hashes import sha256

MANIFEST_NAME = 'manifest.json'


def write_manifest(step_dir: epath.PathLike) -> None:
    """Writes `manifest.json` into `step_dir`: for every file below it, the relative path, size in bytes and SHA-256.

    The manifest appears whole or not at all: on a disk it is written under another name, flushed and renamed; in a
    bucket every object does.

    Args:
      step_dir: directory of a finished checkpoint, to which no process writes; local or gs://.
    """
    step_dir = epath.Path(step_dir)
    entries = {name: [path.stat().length, sha256(path)] for name, path in _files(step_dir)}
    if is_bucket(step_dir):
        (step_dir / MANIFEST_NAME).write_text(json.dumps(entries, indent=1))
        return
    temporary = step_dir / f'{MANIFEST_NAME}.tmp'
    with temporary.open('w') as file:
        json.dump(entries, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(step_dir / MANIFEST_NAME)


def verify_manifest(step_dir: epath.PathLike) -> list[str]:
    """Returns what is wrong with the files of a checkpoint, one entry a file such as 'state/_METADATA changed'.

    A file that the manifest does not list is none of its concern. An unreadable manifest is itself a fault.

    Args:
      step_dir: directory of a finished checkpoint; local or gs://.

    Returns:
      One string for each missing, resized or changed file in path order; empty when the checkpoint is intact.
    """
    step_dir = epath.Path(step_dir)
    try:
        entries = json.loads((step_dir / MANIFEST_NAME).read_bytes())
        expected = {str(name): (int(size), str(digest)) for name, (size, digest) in entries.items()}
    except FileNotFoundError:
        return [f'{MANIFEST_NAME} missing']
    except (ValueError, TypeError, AttributeError):  # a damaged manifest can be any bytes, or JSON of another form
        return [f'{MANIFEST_NAME} changed']
    faults = ((name, _fault(step_dir / name, *expected[name])) for name in sorted(expected))
    return [f'{name} {fault}' for name, fault in faults if fault]


def _fault(path: epath.Path, size: int, digest: str) -> str | None:
    """Says how the file differs from its manifest entry; None when it does not. Hashes only if the size is right."""
    try:
        found = path.stat().length
        if found != size:
            return f'has {found} bytes instead of {size}'
        return None if sha256(path) == digest else 'changed'
    except FileNotFoundError:
        return 'missing'
    except OSError as error:
        return f'unreadable ({error})'


def _files(directory: epath.Path, prefix: str = '') -> Iterator[tuple[str, epath.Path]]:
    """Yields (relative path, path) of every file below `directory`, except the manifest itself."""
    for path in sorted(directory.iterdir()):
        name = prefix + path.name
        if path.is_dir():
            yield from _files(path, f'{name}/')
        elif name != MANIFEST_NAME:
            yield name, path
