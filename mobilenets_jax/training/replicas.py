"""Sees to it that all devices of all hosts hold one and the same state.

Nothing else would notice a copy that went its own way, through a flipped bit or a step that forgot a reduction: each
device would train on from its own, and the checkpoints hold only one of them.
"""

from typing import Any

from mobilenets_jax import hosts
from mobilenets_jax.errors import RunError
from mobilenets_jax.training import parallel
from mobilenets_jax.trees import named_leaves

PyTree = Any


class ReplicaError(RunError):
    """The devices hold different copies of what should be one state."""


def check_replicas(state: PyTree, step: int) -> None:
    """Compares the copies of every leaf, by their checksums. It reads all of them, and needs no collective.

    Args:
        state: replicated by `parallel.replicate`.
        step: for the message.

    Raises:
        ReplicaError: names the first leaf that differs, and where; the same on every host.
    """
    names = list(named_leaves(state))
    checksums = hosts.start_all_gather(parallel.copy_checksums(state))

    def describe() -> str | None:
        copies = [(host, device, copy) for host, local in enumerate(checksums()) for device, copy in enumerate(local)]
        expected = copies[0][2]
        for host, device, copy in copies:
            wrong = [name for name, own, other in zip(names, copy, expected, strict=True) if own != other]
            if wrong:
                more = f' and {len(wrong) - 1} more' if len(wrong) > 1 else ''
                return f'{wrong[0]}{more} of device {device} of host {host} differ from those of the first device'
        return None

    difference = hosts.broadcast_from_primary(describe)
    if difference:
        raise ReplicaError(f'After step {step} {difference}; that state was not saved.')
