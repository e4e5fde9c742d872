"""Downloads published weights once: to a temporary name, verified, then renamed."""

import hashlib
import os
import pathlib
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import BinaryIO

from mobilenets_jax import machine
from mobilenets_jax.errors import UserError
from mobilenets_jax.weights.cards import WeightCard
from mobilenets_jax.weights.readers.errors import MAX_WEIGHTS_BYTES

CACHE_VARIABLE = 'MOBILENETS_JAX_CACHE'
TIMEOUT_SECONDS = 30


def cache_folder() -> pathlib.Path:
    """Where downloads are kept: $MOBILENETS_JAX_CACHE, or mobilenets_jax in the user's cache folder."""
    return pathlib.Path(os.environ.get(CACHE_VARIABLE) or machine.cache_folder())


def fetch(card: WeightCard, open_url: Callable[[str], BinaryIO] | None = None) -> pathlib.Path:
    """The card's file, downloaded unless the cache has it.

    Args:
        card: with a URL.
        open_url: from a URL to a stream of its bytes; https by default.

    Raises:
        UserError: the file cannot be downloaded, or is not the published file.
    """
    path = cache_folder() / card.name.partition(':')[0] / card.file_name
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            temporary = pathlib.Path(folder, path.name)
            with (open_url or _open_https)(card.url) as source, temporary.open('wb') as target:
                _copy(source, target)
            _verify(temporary, card)
            temporary.replace(path)
    except (OSError, urllib.error.URLError) as error:
        raise UserError(
            f'weights={card.name!r}: {card.url} cannot be downloaded ({error}). '
            f'Fetch it by hand to {path}, or give the path of a file that you have.'
        ) from error
    return path


def _open_https(url: str) -> BinaryIO:
    response = urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS)
    if urllib.parse.urlparse(response.geturl()).scheme != 'https':  # after redirections
        response.close()
        raise OSError(f'it leads to {response.geturl()}, which is not https')
    return response


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    claimed = getattr(source, 'length', None)  # of an HTTP response
    if claimed is not None and claimed > MAX_WEIGHTS_BYTES:
        raise OSError(f'it has {claimed} bytes, more than {MAX_WEIGHTS_BYTES}')
    shutil.copyfileobj(_Limited(source), target)
    expected = getattr(source, 'length', None)  # of an HTTP response: the remaining bytes
    if expected:
        raise OSError(f'the connection ended {expected} bytes early')


class _Limited:
    """A stream that gives up beyond `MAX_WEIGHTS_BYTES`."""

    def __init__(self, source: BinaryIO):
        self._source = source
        self._left = MAX_WEIGHTS_BYTES

    def read(self, size: int) -> bytes:
        chunk = self._source.read(size)
        self._left -= len(chunk)
        if self._left < 0:
            raise OSError(f'it has more than {MAX_WEIGHTS_BYTES} bytes')
        return chunk


def _verify(path: pathlib.Path, card: WeightCard) -> None:
    """Raises `UserError` unless the file has the card's digest."""
    if card.digest is None:
        return
    algorithm, _, digits = card.digest.partition(':')
    with path.open('rb') as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if not found.startswith(digits):
        raise UserError(
            f'weights={card.name!r}: {card.url} has {algorithm} {found[: len(digits)]}, '
            f'published is {digits}; nothing was kept.'
        )
