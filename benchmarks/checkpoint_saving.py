"""How much each host writes of a checkpoint, and how long training waits for it, by number of hosts.

`python benchmarks/checkpoint_saving.py`: processes on this machine stand for hosts. The state is that of
MobileNetV3-Large with RMSProp and averages. "primary": all of it written by host 0, as of arrays in host memory;
"shared": as the training loop saves, each host its part.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODES, HOSTS, SAVES = ('primary', 'shared'), (1, 2, 4), 6
LIMIT_SECONDS = 300


def bytes_written() -> int:
    """By this process, until now."""
    lines = Path('/proc/self/io').read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith('wchar')))


def save_as_host(mode: str, host: int, hosts: int, port: int, folder: str) -> None:
    """Saves the state several times; prints one JSON list of its bytes, and the seconds waited and taken in all."""
    import jax
    import numpy as np

    from mobilenets_jax.checkpoints import CheckpointManager
    from mobilenets_jax.identity import Identity, network_fields
    from mobilenets_jax.models import create_model
    from mobilenets_jax.training import parallel
    from mobilenets_jax.training.state import init_variables

    if hosts > 1:
        jax.distributed.initialize(f'127.0.0.1:{port}', hosts, host, initialization_timeout=60)
    model = create_model('mobilenet_v3_large', num_classes=1000)
    key = jax.eval_shape(jax.random.key, 0)
    params, batch_stats = jax.eval_shape(lambda key: init_variables(model, key, image_size=224), key)
    shapes = {'params': params, 'square': params, 'momentum': params, 'ema': params, 'batch_stats': batch_stats}
    generator = np.random.default_rng(0)
    state = jax.tree.map(lambda leaf: generator.standard_normal(leaf.shape, np.float32), shapes)
    if mode == 'shared':
        state = parallel.replicate(state)
    fields = network_fields({'model': {'name': 'mobilenet_v3_large', 'width_multiplier': 1.0, 'convention': 'tf'}})
    identity = Identity(fields=fields, class_names=())
    rows = []
    with CheckpointManager(folder, identity=identity, keep_last=1, keep_best=False) as manager:
        for step in range(SAVES):
            before, start = bytes_written(), time.perf_counter()
            manager.save(step, state, meta={})
            waited = time.perf_counter() - start
            manager.wait()
            rows.append((bytes_written() - before, waited, time.perf_counter() - start))
    print(json.dumps(rows), flush=True)


def measure(mode: str, hosts: int) -> str:
    """A row of the table: medians over all saves but the first, of the host that writes or waits most."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        port = listener.getsockname()[1]
    environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, __file__, '--as_host', mode]
        started = [
            subprocess.Popen([*words, *map(str, (host, hosts, port, folder))], stdout=subprocess.PIPE, env=environment)
            for host in range(hosts)
        ]
        outputs = [process.communicate(timeout=LIMIT_SECONDS)[0].splitlines() for process in started]
    by_host = [list(zip(*json.loads(lines[-1])[1:], strict=True)) for lines in outputs]  # (bytes, waited, taken)
    medians = [[statistics.median(column) for column in columns] for columns in by_host]
    written = ', '.join(f'{row[0] / 1e6:.1f}' for row in medians)
    waited, taken = (max(row[column] for row in medians) for column in (1, 2))
    return f'| {hosts} | {mode} | {written} | {1000 * waited:.0f} | {1000 * taken:.0f} |'


def main() -> None:
    """Prints a Markdown table, or plays one of the hosts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--as_host', nargs=5, help=argparse.SUPPRESS)
    played = parser.parse_args().as_host
    if played:
        mode, host, hosts, port, folder = played
        save_as_host(mode, int(host), int(hosts), int(port), folder)
        return
    print('| hosts | written by | MB written by each host | training waits, ms | until it is whole, ms |')
    print('|---:|---|---:|---:|---:|')
    for hosts in HOSTS:
        for mode in MODES[:1] if hosts == 1 else MODES:
            print(measure(mode, hosts), flush=True)


if __name__ == '__main__':
    main()
