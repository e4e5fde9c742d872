"""Global batches put together from all processes, and their hashes."""

import hashlib
import itertools

import numpy as np

from mobilenets_jax.data import Layout


def global_batches(make, processes=1, devices=1, start=0, count=1):
    """The first `count` global batches, rows without the device axis; `make(process)` creates a process's data set."""
    streams = [make(p).train_batches(Layout(p, processes, devices), start=start) for p in range(processes)]
    for parts in itertools.islice(zip(*streams, strict=True), count):
        rows = [{key: value.reshape(-1, *value.shape[2:]) for key, value in part.items()} for part in parts]
        yield {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}


def sha256(batch):
    digest = hashlib.sha256()
    for key in sorted(batch):
        digest.update(f'{key} {batch[key].dtype} {batch[key].shape}'.encode() + batch[key].tobytes())
    return digest.hexdigest()


def hashes(make, **kwargs):
    return [sha256(batch) for batch in global_batches(make, **kwargs)]
