"""A fingerprint of a split: which examples it has, and in which order.

A position in the training stream means other examples once the data have changed, since the order of an epoch is a
permutation of all of them. So every checkpoint keeps the fingerprints of its data, and a run that goes on compares
them. They come from what a source knows when it is opened: the names of the files, or the hashes in a manifest. What is
in an image file is no part of them: they tell which examples there are, not what the examples look like.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mobilenets_jax.errors import UserError
from mobilenets_jax.hosts import warn

# Parts of a split, in its order: what each is called, how many examples it has, and a hash. JSON-able.
Part = list[Any]
Fingerprint = list[Part]

TRAIN, EVALUATION = 'training', 'evaluation'

MOST_PARTS = 1000  # all of them are in every checkpoint's meta
_HASH_DIGITS = 16


def of_names(part: str, names: Sequence[str]) -> Part:
    """A part by the names of its examples; they may be no Unicode."""
    return [part, len(names), _hash(os.fsencode(name) + b'\0' for name in names)]


def of_arrays(part: str, *arrays: np.ndarray) -> Part:
    """A part by arrays [examples, ...]."""
    return [part, len(arrays[0]), _hash(np.ascontiguousarray(array).tobytes() for array in arrays)]


def of_facts(part: str, count: int, *facts: Any) -> Part:
    """The fingerprint of a part from facts about its examples, JSON-able."""
    return [part, count, _hash([json.dumps(facts).encode()])]


def condensed(parts: Sequence[Part]) -> Fingerprint:
    """The fingerprint of a split with such parts; of many, neighbours become one."""
    if len(parts) <= MOST_PARTS:
        return list(parts)
    size = -(-len(parts) // MOST_PARTS)
    groups = [parts[start : start + size] for start in range(0, len(parts), size)]
    return [of_facts(f'{group[0][0]} to {group[-1][0]}', sum(part[1] for part in group), *group) for group in groups]


def summary(fingerprint: Fingerprint) -> str:
    """A hash of the whole, for comparing hosts."""
    return _hash([json.dumps(fingerprint).encode()])


def difference(before: Fingerprint, now: Fingerprint) -> str:
    """What has changed, in a few words; '' if nothing has."""
    if list(map(list, before)) == list(map(list, now)):
        return ''
    count_before, count_now = (sum(part[1] for part in parts) for parts in (before, now))
    counts = (
        f'{count_now} examples, as before' if count_now == count_before else f'{count_now} examples, not {count_before}'
    )
    return f'{counts}; {_first_difference(before, now)}'


def _first_difference(before: Fingerprint, now: Fingerprint) -> str:
    old, new = ({name: (count, digest) for name, count, digest in parts} for parts in (before, now))
    for name in {**new, **old}:
        if name not in old:
            return f'{name} is new'
        if name not in new:
            return f'{name} is gone'
        if old[name] != new[name]:
            counts = old[name][0], new[name][0]
            return f'{name} has {counts[1]}, not {counts[0]}' if counts[0] != counts[1] else f'{name} has others'
    return 'their order is another'


def check_training_data(
    checkpoint: str, stored: Mapping[str, Fingerprint] | None, found: Mapping[str, Fingerprint], *, accept: bool
) -> None:
    """Allows a run to resume with the examples that it began with, and with others only if that is accepted.

    Args:
        checkpoint: its name in messages.
        stored: the fingerprints that were saved with it; None: it was saved by a version without them.
        found: those of the data.
        accept: whether the run may resume with other examples; one line on standard error says so.

    Raises:
        UserError: the examples are others, and that is not accepted.
    """
    if stored is None:
        warn(f'{checkpoint} does not say which training examples it knows: they cannot be compared with those of today')
        return
    changed = difference(stored[TRAIN], found[TRAIN])
    others = f'the training data are others than those of {checkpoint}: {changed}'
    if changed and not accept:
        raise UserError(
            f'{others}. What is left of the epoch would be other examples; '
            '--config.data.accept_changes=True goes on with them.'
        )
    if changed:
        warn(f'{others}; the run goes on with them')


def warn_of_other_evaluation_data(
    checkpoint: str, stored: Mapping[str, Fingerprint] | None, found: Mapping[str, Fingerprint]
) -> None:
    """Prints one line if the evaluation data differ from those of the run that saved a checkpoint."""
    if stored is not None:
        changed = difference(stored[EVALUATION], found[EVALUATION])
        if changed:
            warn(f'the evaluation data are others than those of {checkpoint}: {changed}')


def _hash(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()[:_HASH_DIGITS]
