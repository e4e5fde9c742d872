"""ArrayRecord shards, read at random: every shard is opened and counted before the first record is read."""

import resource
from collections.abc import Sequence

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from mobilenets_jax.buckets import is_bucket
from mobilenets_jax.errors import UserError

READER_OPTIONS = 'readahead_buffer_size:0'  # reading ahead of a random position gains nothing
OTHER_OPEN_FILES = 256  # that a process has besides the shards: libraries, checkpoints, sockets


class ArrayRecords:
    """The records of several shards, numbered through.

    Args:
        paths: the shards, local files.
        shard_lengths: how many records each of them must hold.

    Raises:
        UserError: a shard cannot be opened or does not hold as many records as it should.
    """

    def __init__(self, paths: Sequence[str], shard_lengths: Sequence[int]):
        _allow_open_files(len(paths))
        self._paths = paths
        self._ends = np.cumsum(shard_lengths)
        self._starts = self._ends - shard_lengths
        self._readers = [_open(path) for path in paths]
        for path, reader, length in zip(paths, self._readers, shard_lengths, strict=True):
            if reader.num_records() != length:
                raise UserError(f'{path} holds {reader.num_records()} records, but should hold {length}.')

    def fetch(self, index: np.ndarray) -> np.ndarray:
        """The records of `index` [k], bytes [k] (dtype object); b'' for one whose checksum is wrong."""
        records = np.full(len(index), b'', object)
        shards = np.searchsorted(self._ends, index, side='right')
        for shard in np.unique(shards):
            rows = np.flatnonzero(shards == shard)
            positions = (index[rows] - self._starts[shard]).tolist()
            try:
                records[rows] = self._readers[shard].read(positions)
            except RuntimeError:
                records[rows] = [self._read_or_nothing(shard, position) for position in positions]
        return records

    def _read_or_nothing(self, shard: int, position: int) -> bytes:
        reader = _open(self._paths[shard])  # One that has failed once fails for ever.
        try:
            return reader.read([position])[0]
        except RuntimeError:
            return b''


def _open(path: str) -> ArrayRecordReader:
    if is_bucket(path):
        raise UserError(f'{path}: ArrayRecord is read from local disks and mounted buckets only; TFRecord from both.')
    try:
        with open(path, 'rb'):  # The reader itself does not say why it cannot open a file.
            reader = ArrayRecordReader(path, READER_OPTIONS)
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}.') from error
    if not reader.ok():
        raise UserError(f'{path} cannot be read: it is no whole ArrayRecord file.')
    return reader


def _allow_open_files(shards: int) -> None:
    """Lifts the process's own limit, often 1024 files, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = shards + OTHER_OPEN_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
