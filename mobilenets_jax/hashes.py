"""Hashes of files, local or gs://."""

import hashlib

from etils import epath

_READ_BYTES = 1 << 20


def sha256(path: epath.Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
