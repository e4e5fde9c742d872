"""Takes the weights out of tar archives, which may be small and unpack to anything: no further than a limit."""

import bz2
import fnmatch
import gzip
import pathlib
import shutil
import tarfile
from typing import BinaryIO

from mobilenets_jax.errors import UserError
from mobilenets_jax.weights.readers.errors import MAX_TEXT_BYTES, UnreadableFileError, check_bytes

MAX_MEMBERS = 10_000
MAX_LISTED = 5  # files of an archive, in an error

_WEIGHT_PATTERNS = ('*.tflite', '*.pth', '*.pt', '*.safetensors', '*.bin', '*.h5', '*.keras', '*.index', '*.data-*')
# First bytes -> what unpacks the file. Others (xz) may ask for gigabytes before the first byte comes out.
_COMPRESSED = {b'\x1f\x8b': gzip.open, b'BZh': bz2.open}


class _Bounded:
    """The unpacked bytes of an archive as far as they may go; what asks for more is refused before it is unpacked."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.tell, self.close = file.tell, file.close

    def read(self, size: int) -> bytes:
        """As of a file; a header may have any length, but not any."""
        check_bytes('its archive has a header of', size, MAX_TEXT_BYTES)
        check_bytes('its archive unpacks to', self.tell() + size)
        return self._file.read(size)

    def seek(self, position: int) -> int:
        """As of a file: to a place counted from its start."""
        check_bytes('its archive unpacks to', position)
        return self._file.seek(position)


def open_archive(path: pathlib.Path) -> tarfile.TarFile | None:
    """A tar archive, perhaps compressed by gzip or bzip2; None of any other file."""
    with path.open('rb') as file:
        start = file.read(8)
    opener = next((opener for magic, opener in _COMPRESSED.items() if start.startswith(magic)), open)
    file = opener(path, 'rb')
    try:
        return tarfile.open(fileobj=_Bounded(file), mode='r:')
    except tarfile.TarError:
        file.close()
        return None


def extract(
    archive: tarfile.TarFile, archive_path: pathlib.Path, member: str | None, folder: pathlib.Path
) -> pathlib.Path:
    """Copies the weights of a tar archive into `folder`, and returns the path to read.

    Args:
        archive: opened by `open_archive`.
        archive_path: for messages.
        member: which file holds the weights, as a shell pattern; None takes the only one there is.
        folder: an empty one.

    Raises:
        UserError: the archive holds a path outside of itself or a link, or not one file that fits `member`.
        UnreadableFileError: it unpacks to too much.
    """
    members = _members(archive, archive_path)
    chosen = [info for info in members if info.isfile() and _fits(info.name, member)]
    starts = {info.name.removesuffix('.index').partition('.data-')[0] for info in chosen}
    if len(starts) != 1:
        found = sorted(info.name for info in chosen or members if info.isfile())
        more = f' and {len(found) - MAX_LISTED} more' if len(found) > MAX_LISTED else ''
        listed = ', '.join(found[:MAX_LISTED]) + more
        raise UserError(
            f'weights={str(archive_path)!r} is a tar archive that does not hold one set of weights. '
            f'It holds: {listed or "nothing"}.'
        )
    check_bytes('its archive unpacks to', sum(info.size for info in chosen))  # one with holes is larger than its bytes
    for info in chosen:
        with archive.extractfile(info) as source, (folder / pathlib.PurePosixPath(info.name).name).open('wb') as target:
            shutil.copyfileobj(source, target)
    return folder / pathlib.PurePosixPath(starts.pop()).name


def _members(archive: tarfile.TarFile, path: pathlib.Path) -> list[tarfile.TarInfo]:
    members = []
    for info in archive:
        parts = pathlib.PurePosixPath(info.name).parts
        if info.name.startswith('/') or '..' in parts or not (info.isfile() or info.isdir()):
            raise UserError(f'weights={str(path)!r} holds {info.name!r}, which leads out of the archive.')
        members.append(info)
        if len(members) > MAX_MEMBERS:
            raise UnreadableFileError(f'its archive has more than {MAX_MEMBERS} files')
    return members


def _fits(name: str, member: str | None) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in ([member] if member else _WEIGHT_PATTERNS))
