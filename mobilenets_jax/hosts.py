"""The hosts of a run: how they find each other, check that they run the same program, and decide as one.

All of it goes through the coordinator of `jax.distributed`, not through the devices: it works before anything is
compiled, from any thread, and between hosts whose devices differ. A host is a process here.
"""

import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax._src import distributed  # JAX publishes no other way to its coordinator's key-value store
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mobilenets_jax.errors import UserError, check

T = TypeVar('T')

_PREFIX = 'mobilenets_jax/'
_LAST_WORDS_SECONDS = 5
_HEAD_START_SECONDS = 1
# A name, such as that of a pod, may become known only after the hosts have started.
_RESOLVE_SECONDS = 10
_TIMEOUT_SECONDS = 1200  # as long as Orbax waits at its own barriers: the slowest write to a busy bucket
# A name must be new each time. All hosts make the same calls in the same order; barriers run in a separate thread.
_message_numbers = itertools.count()
_barrier_numbers = itertools.count()


def join(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    *,
    timeout_seconds: int,
    heartbeat_timeout_seconds: int,
) -> None:
    """Joins the other hosts; must come before JAX is asked for its devices.

    A host that finds no other host ends with status 1 and one line: XLA would end it with a C++ stack trace.

    Args:
        coordinator: HOST:PORT of process 0; None on Cloud TPU, where JAX finds all three arguments.
        num_processes: hosts in the run.
        process_id: this host.
        timeout_seconds: how long to wait until all are there.
        heartbeat_timeout_seconds: if a host does not respond for this time, it is dead, and the others end.

    Raises:
        UserError: the flags contradict each other, or no host is found with them.
    """
    if coordinator is not None:
        check(num_processes is not None and num_processes >= 1, '--num_processes', num_processes, 'must be positive')
        in_range = process_id is not None and 0 <= process_id < num_processes
        check(in_range, '--process_id', process_id, f'must be in [0, {num_processes})')
        _check_address(coordinator, listens=process_id == 0)
    # The devices of CPUs are found through the coordinator, too: a busy host takes longer than JAX waits for it.
    minutes = _TIMEOUT_SECONDS // 60
    jax.config.update('jax_cpu_get_local_topology_timeout_minutes', minutes)
    jax.config.update('jax_cpu_get_global_topology_timeout_minutes', minutes + 1)
    who = f'process {process_id} of {num_processes} at {coordinator}' if coordinator else 'this host'
    failure = f'{who} waited {timeout_seconds} s for the others; start the same command on every host'
    with _ends_after(timeout_seconds, failure), _explaining_multihost(coordinator):
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=2 * timeout_seconds,
            heartbeat_timeout_seconds=heartbeat_timeout_seconds,
            shutdown_timeout_seconds=timeout_seconds,
        )


def _check_address(coordinator: str, *, listens: bool) -> None:
    """Raises `UserError` unless it is HOST:PORT of a known host, and the port is free if this process must listen."""
    host, _, port = coordinator.rpartition(':')
    is_port = port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535
    check(host != '' and is_port, '--coordinator', coordinator, 'must be HOST:PORT, with a port from 1 to 65535')
    if listens:
        try:
            socket.create_server(('', int(port))).close()
        except OSError as error:
            raise UserError(f'--coordinator={coordinator!r}: cannot listen there: {error.strerror}.') from error
    end = time.monotonic() + _RESOLVE_SECONDS
    while True:
        try:
            socket.getaddrinfo(host.strip('[]'), int(port))
            return
        except (OSError, UnicodeError) as error:  # a name with an empty or very long part is no text of a host name
            if time.monotonic() > end:
                reason = getattr(error, 'strerror', None) or 'no host name'
                raise UserError(f'--coordinator={coordinator!r}: the host is unknown: {reason}.') from error
        time.sleep(1)


@contextlib.contextmanager
def _explaining_multihost(coordinator: str | None) -> Iterator[None]:
    """Raises `UserError` in place of the errors of JAX when it cannot find the other hosts."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if coordinator is not None:
            raise
        raise UserError(
            '--multihost is for Cloud TPU, where the hosts of a slice find each other by themselves; elsewhere give '
            f'--coordinator=HOST:PORT, --num_processes and --process_id. ({str(error).splitlines()[0]})'
        ) from error


def connect() -> None:
    """Connects the devices of all hosts, if they are CPUs: at the same time, while no host does other work.

    Gloo waits 30 seconds for a connection, and this limit cannot be changed. Without this function the connection would
    be made in the first step, before which a busy host may compile for a minute longer than the others. Connected hosts
    wait for each other much longer.
    """
    if jax.default_backend() != 'cpu':
        return
    everywhere = NamedSharding(Mesh(jax.devices(), ('device',)), PartitionSpec('device'))
    ones = jax.make_array_from_callback((jax.device_count(),), everywhere, lambda index: np.ones(1, np.float32))
    total = jax.jit(jnp.sum).lower(ones).compile()
    barrier('connect')
    jax.block_until_ready(total(ones))


def check_agreement(facts: Mapping[str, Any]) -> None:
    """Raises the same `UserError` on every host, which names the first host and fact that differ, unless all agree.

    Args:
        facts: JSON-able, by the names that a user knows.
    """
    wait_for_all = start_all_gather(facts)

    def compare() -> None:
        own, *others = wait_for_all()
        for host, other in enumerate(others, 1):
            for name in sorted({**own, **other}):
                if own.get(name) != other.get(name):
                    difference = f'{name}: {other.get(name)!r} instead of {own.get(name)!r}'
                    raise UserError(f'host {host} differs from host 0 in {difference}.')

    broadcast_from_primary(compare)


def start_all_gather(value: T) -> Callable[[], list[T]]:
    """Sends a JSON-able value; returns a function, for `broadcast_from_primary`, that waits for those of all hosts."""
    text = json.dumps(value)
    if jax.process_count() == 1:
        return lambda: [json.loads(text)]
    name = f'all_gather_{next(_message_numbers)}'
    _set(f'{name}/{jax.process_index()}', text)

    def receive() -> list[T]:
        values = [json.loads(_get(f'{name}/{host}')) for host in range(jax.process_count())]
        distributed.global_state.client.key_value_delete(f'{_PREFIX}{name}/')  # or the coordinator's memory would fill
        return values

    return receive


def code_version() -> str:
    """The start of a hash of the package's source files."""
    root = pathlib.Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob('*.py')):
        digest.update(f'{path.relative_to(root)}\n'.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def broadcast_from_primary(decide: Callable[[], T]) -> T:
    """Calls `decide` on the primary process alone and hands its JSON-able result, or its `UserError`, to every process.

    So all hosts use the same view of a shared file system, which may show two hosts different lists of checkpoints at
    the same time. Every process must call it.
    """
    outcome = {}
    if jax.process_index() == 0:
        try:
            outcome = {'result': decide()}
        except UserError as error:
            outcome = {'error': str(error)}
    if jax.process_count() > 1:
        name = f'decision_{next(_message_numbers)}'
        if jax.process_index() == 0:
            _set(name, json.dumps(outcome))
        outcome = json.loads(_get(name))
    if 'error' in outcome:
        raise UserError(outcome['error'])
    return outcome['result']


def warn(line: str) -> None:
    """Prints a line on standard error, once for all hosts."""
    if jax.process_index() == 0:
        print(line, file=sys.stderr, flush=True)


def barrier(name: str) -> None:
    """Waits until every process has called it. It must not be called in several threads at the same time."""
    wait = ocp.multihost.get_barrier_sync_fn()
    wait(key=f'{name}_{next(_barrier_numbers)}', timeout_ms=_TIMEOUT_SECONDS * 1000)


def exit_process(status: int) -> NoReturn:
    """Ends this process; at once if there are several processes, since a normal end would wait for the others.

    Hosts that end for the same reason end together: the coordinator ends with host 0, before the others could print.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.process_count() == 1:
        sys.exit(status)
    with contextlib.suppress(Exception):  # the others go on, or are gone
        distributed.global_state.client.wait_at_barrier(f'{_PREFIX}end', _LAST_WORDS_SECONDS * 1000)
        if jax.process_index() == 0:
            time.sleep(_HEAD_START_SECONDS)
    os._exit(status)


def _set(name: str, value: str) -> None:
    distributed.global_state.client.key_value_set(_PREFIX + name, value)


def _get(name: str) -> str:
    return distributed.global_state.client.blocking_key_value_get(_PREFIX + name, _TIMEOUT_SECONDS * 1000)


@contextlib.contextmanager
def _ends_after(seconds: float, failure: str) -> Iterator[None]:
    """Ends the process with status 1 and one line if the body takes longer."""

    def end_process():
        print(f'error: {failure}', file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(seconds, end_process)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
