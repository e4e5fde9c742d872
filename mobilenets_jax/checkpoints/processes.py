"""How the processes of a run agree: the primary one decides, and all of them wait for each other.

A shared file system may show two hosts two different lists of checkpoints at one moment, so only one of them looks.
"""

import itertools
import json
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from mobilenets_jax.errors import UserError

T = TypeVar('T')

_BARRIER_TIMEOUT_SECONDS = 1200  # as long as Orbax waits at its own: the slowest write to a busy bucket
_barrier_count = itertools.count()  # a barrier's name must be new each time; all processes pass the same barriers


def decided_by_primary(decide: Callable[[], T]) -> T:
    """Calls `decide` on the primary process alone and hands its JSON-able result, or its `UserError`, to every process.

    So all hosts act on one reading of a shared file system. Called by every process, in the main thread.
    """
    outcome = {}
    if jax.process_index() == 0:
        try:
            outcome = {'result': decide()}
        except UserError as error:
            outcome = {'error': str(error)}
    if jax.process_count() > 1:
        outcome = json.loads(_broadcast(json.dumps(outcome)))
    if 'error' in outcome:
        raise UserError(outcome['error'])
    return outcome['result']


def barrier(name: str) -> None:
    """Waits until every process is here. Uses the coordinator, not the devices, so that any one thread may call it."""
    wait = ocp.multihost.get_barrier_sync_fn()
    wait(key=f'{name}_{next(_barrier_count)}', timeout_ms=_BARRIER_TIMEOUT_SECONDS * 1000)


def _broadcast(text: str) -> str:
    """Returns the primary process's text on every process."""
    data = np.frombuffer(text.encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(data.size)))
    if jax.process_index() != 0:
        data = np.zeros(length, np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(data), np.uint8)).decode()
