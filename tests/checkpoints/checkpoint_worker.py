"""A process that the interruption tests start, kill and start again. No test in here.

`checkpoint_worker.py train DIRECTORY`: goes on from the newest checkpoint, checks it, and saves every step, for ever.
`checkpoint_worker.py pod DIRECTORY RANK PROCESSES PORT`: one process of several; see `pod`. `full_disk` likewise.
"""

import os
import resource
import sys
import time
from pathlib import Path

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=2'

import jax  # noqa: E402
import numpy as np  # noqa: E402
from checkpoint_states import IDENTITY, WIDTH, digest, make_state, replicated  # noqa: E402

from mobilenets_jax import hosts  # noqa: E402
from mobilenets_jax.checkpoints import CheckpointManager  # noqa: E402
from mobilenets_jax.checkpoints.manager import CheckpointError  # noqa: E402
from mobilenets_jax.errors import UserError  # noqa: E402
from mobilenets_jax.stop_signals import StopSignals  # noqa: E402
from mobilenets_jax.training.replicas import ReplicaError, check_replicas  # noqa: E402


def say(*words):
    print(*words, flush=True)


def train(directory: str) -> None:
    """Prints 'saved STEP' for each checkpoint that `wait` has reported finished."""
    template = make_state(0, WIDTH)
    with CheckpointManager(directory, identity=IDENTITY, keep_last=2) as manager:
        restored = manager.restore(template)
        step = restored.step if restored else 0
        if restored and digest(restored.state) != digest(make_state(step, WIDTH)):
            say('WRONG', step)
        while True:
            step += 1
            manager.save(step, replicated(make_state(step, WIDTH)), meta={})
            say('saving', step)
            manager.wait()
            say('saved', step)


def pod(directory: str, rank: int, processes: int, port: int) -> None:
    """Saves, restores past a damaged step, is refused twice, runs until a signal to any process; says what it sees."""
    jax.distributed.initialize(f'127.0.0.1:{port}', num_processes=processes, process_id=rank, initialization_timeout=60)
    say('devices', jax.device_count(), jax.local_device_count())
    with CheckpointManager(directory, identity=IDENTITY, keep_last=2) as manager:
        say('empty', manager.restore(make_state(0, WIDTH)))
        for step in (1, 2, 3):
            manager.save(step, replicated(make_state(step, WIDTH)), meta={'position': step}, metric=-step)
        manager.save(3, replicated(make_state(99, WIDTH)), meta={})  # is there already: all processes leave it
        manager.wait()
        say('steps', manager.steps(), manager.best_step())
        if rank == 0:
            data = Path(directory, '3', 'meta', 'metadata')
            data.write_bytes(data.read_bytes().replace(b'3', b'4'))
        restored = manager.restore(make_state(0, WIDTH))
        say('restored', restored.step, restored.meta, digest(restored.state) == digest(make_state(2, WIDTH)))
        try:
            manager.restore(make_state(0, WIDTH), step=3)
        except UserError as error:
            say('refused', error)
        try:
            check_replicas(replicated({'params': {'bias': np.zeros(3), 'kernel': np.full(3, rank)}}), step=3)
        except ReplicaError as error:
            say('refused', error)
        with StopSignals() as stop_signals:
            for step in range(4, 3000):
                if stop_signals.reached(step):
                    manager.save(step, replicated(make_state(step, WIDTH)), meta={})
                    break
                if step == 4:
                    say('running')
                time.sleep(0.01)
            say('stopped', stop_signals.name(), step)


def full_disk(directory: str, rank: int, processes: int, port: int) -> None:
    """Saves step 1, then step 2, for which the disk of the last process is too small; ends as train.py does."""
    hosts.join(f'127.0.0.1:{port}', processes, rank, timeout_seconds=60, heartbeat_timeout_seconds=10)
    with CheckpointManager(directory, identity=IDENTITY) as manager:
        for step in (1, 2):
            manager.save(step, replicated(make_state(step, WIDTH)), meta={})
            try:
                manager.wait()
            except CheckpointError as error:
                say('failed', error)
                hosts.exit_process(1)
            say('saved', step)
            if rank == processes - 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))


if __name__ == '__main__':
    mode, path, *numbers = sys.argv[1:]
    {'train': train, 'pod': pod, 'full_disk': full_disk}[mode](path, *map(int, numbers))
