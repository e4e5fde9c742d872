"""Paths in buckets, such as gs://bucket/folder: which they are, and by which client they are read and written.

A bucket holds objects, not folders: a folder is there while an object's name begins with it. An object appears whole or
not at all. Nothing can be renamed in one move: a folder is copied and deleted, object by object.
"""

import os
from typing import NoReturn

import fsspec
from etils import epath

from mobilenets_jax.errors import one_line


def is_bucket(path: epath.PathLike) -> bool:
    """Whether a path is in a bucket."""
    return '://' in os.fspath(path)


def use_one_client() -> None:
    """Has all paths in buckets read and written by fsspec (gcsfs for gs://); called by every command, before any is.

    `epath` would take TensorFlow's client where that is installed, whose errors are no `OSError`, and import it. gcsfs
    would keep what it has listed once, though other clients write there as well: Orbax's, and other hosts.
    """
    os.environ.setdefault('EPATH_USE_TF', 'false')
    for protocol in ('gs', 'gcs'):
        fsspec.config.conf.setdefault(protocol, {}).setdefault('use_listings_cache', False)


def list_names(directory: epath.Path) -> list[str]:
    """The names in a local folder or one in a bucket, where a folder without objects is none."""
    try:
        return [path.name for path in directory.iterdir()]
    except FileNotFoundError:
        if is_bucket(directory):
            return []
        raise


def list_entries(directory: epath.Path) -> list[tuple[str, bool]]:
    """The names in a folder of a bucket, and whether they are folders, by one question for thousands of them.

    Raises:
        OSError: there is no object in it, or it cannot be listed.
    """

    def fail(error: OSError) -> NoReturn:
        raise error

    try:
        listed = next(iter(directory.walk(on_error=fail)), None)
    except OSError:
        raise
    except Exception as error:  # whatever the client raises
        raise OSError(one_line(error)) from error
    if listed is None or not (listed[1] or listed[2]):
        raise FileNotFoundError('there is no such folder')
    _, folders, files = listed
    return [*((name, True) for name in folders), *((name, False) for name in files if name)]
