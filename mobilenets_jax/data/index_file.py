"""Indexes of what takes long to find out about many files: a hidden JSON file among the data, and when it holds.

What is found out about a local file or folder holds as long as its stamp is the same: time of modification, time of
change of state, which `tar` and `rsync` cannot set, and inode. What changed right before it was looked at may have
changed again within the same tick of the clock, and what has no times (in a mounted bucket) tells nothing: these have
no stamp, and are looked at again at every start.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from etils import epath

from mobilenets_jax.config import write_text
from mobilenets_jax.errors import UserError

# The coarsest clock that file systems use; two changes within it may have the same time.
CLOCK_NANOSECONDS = 2 * 10**9

Entry = TypeVar('Entry')


def stamp(path: str) -> list[int]:
    """What changes with a local file or folder; [] if it may change without. `UserError` if it is not there."""
    now, found = time.time_ns(), status(path)
    if not found.st_mtime_ns or not found.st_ctime_ns:
        return []
    if max(found.st_mtime_ns, found.st_ctime_ns) > now - CLOCK_NANOSECONDS:
        return []
    return [found.st_mtime_ns, found.st_ctime_ns, found.st_ino]  # No device: hosts number network disks differently.


def status(path: str) -> os.stat_result:
    """Of a local file or folder; `UserError` if it is not there."""
    try:
        return os.stat(path)
    except OSError as error:
        raise UserError(f'data.dir: cannot list {path}: {error.strerror}.') from error


def read_index(
    path: epath.Path, version: int, section: str, parse: Callable[[Any], Entry], remedy: str
) -> dict[str, Entry]:
    """The entries of an index by name; {} if there is none, or none that can be read, which a line on stderr says.

    Args:
        path: of the index.
        version: of its format; an index of another one is none.
        section: the key of the entries.
        parse: makes an entry from its JSON; raises `ValueError`, `TypeError`, `KeyError` or `AttributeError` if it is
            not valid.
        remedy: what happens without an index, e.g. 'the files are listed again'.
    """
    try:
        index = json.loads(path.read_text())
        if index['version'] != version:  # an older or newer version of this code wrote it
            return {}
        return {name: parse(fields) for name, fields in index[section].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        reason = error.strerror
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        reason = 'it is damaged, or something else wrote it'
    print(f'{path} cannot be read ({reason}): {remedy}', file=sys.stderr)
    return {}


def write_index(path: epath.Path, version: int, section: str, entries: Mapping[str, Any], consequence: str) -> None:
    """Writes JSON-able entries; where that is not possible, says so with its consequence."""
    try:
        write_text(path, json.dumps({'version': version, section: dict(entries)}))
    except OSError as error:  # a data set that only others may write to
        print(f'{path} cannot be written ({error.strerror}): {consequence}', file=sys.stderr)
