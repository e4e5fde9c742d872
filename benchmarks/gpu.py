"""On one GPU: this project beside plain Flax, timm and torch.compile; forms of depthwise convolution; CIFAR-10.

    python -m benchmarks.gpu --out=DIR [--cifar10=DIR_OF_CIFAR10] [--minutes=9] [--sections depthwise train inference]

`make bench-gpu` runs it with the Python at hand, which needs jax with CUDA, flax, optax, orbax-checkpoint, torch, timm,
ml-collections and tensorboardX. Each section writes DIR/SECTION.json and prints its table as soon as it is known, so
that a run that is stopped early keeps all results so far. Everything runs in bfloat16 at 224 px, the programs of a race
alternately. The share of the roofline is the bytes that a step reads and writes, by XLA's report, divided by its time
and by the bandwidth of a copy.
"""

import argparse
import collections
import datetime
import functools
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

from benchmarks.command import versions
from benchmarks.race import Contender, race, table

OURS, PLAIN = 'mobilenets_jax', 'Flax, nn.Conv with groups'
_COMPILED, _GRAPHS = {'compiled': True}, {'compiled': True, 'mode': 'reduce-overhead'}
CONTENDERS = (
    Contender(name=OURS, module='ours', knows_bytes=True),
    Contender(name=PLAIN, module='flax_plain', knows_bytes=True),
    Contender(name='timm, eager', module='pytorch', beside_others=True),
    Contender(name='timm, torch.compile', module='pytorch', options=_COMPILED, beside_others=True),
    Contender(name='timm, torch.compile, CUDA graphs', module='pytorch', options=_GRAPHS, beside_others=True),
)
FORMS = tuple(
    Contender(name=f'mobilenets_jax, depthwise {form}', module='ours', options={'depthwise': form})
    for form in ('shifted', 'mixed')
)
NETWORKS = ('mobilenet_v2', 'mobilenet_v3_large', 'mobilenet_v1', 'mobilenet_v3_small')
SIZE, BATCH = 224, 256
SECTIONS = ('depthwise', 'train', 'inference', 'cifar10')
RACE_SECONDS = 120  # about what a race takes, most of it to compile
CIFAR10_SECONDS = 300
BYTES_OF_BFLOAT16 = 2


class Layer(NamedTuple):
    """A depthwise convolution of a network: images [N, side, side, channels]."""

    side: int
    channels: int
    taps: int
    stride: int


def depthwise_layers(networks: Sequence[str]) -> list[Layer]:
    """The layers of the networks, each once, the largest first."""
    from mobilenets_jax.models import get_spec

    layers = set()
    for network in networks:
        spec, side = get_spec(network), SIZE // 2
        for row in spec.blocks:
            layers.add(Layer(side, row.expanded, row.kernel_size, row.stride))
            side //= row.stride
    return sorted(layers, reverse=True)


def measure_depthwise(networks: Sequence[str], bandwidth: float) -> dict[str, Any]:
    """Microseconds of each form for each layer: forward, and the gradients of inputs and kernel."""
    import jax
    import jax.numpy as jnp

    from benchmarks.depthwise_forms import depthwise_conv
    from mobilenets_jax.ops.conv import ConvOptions, convolve_plainly, explicit_pads

    forms = {
        'grouped': convolve_plainly,
        'shifted': lambda options, *arrays: depthwise_conv(options, False, *arrays),
    }
    print('| layer | pass | ' + ' | '.join(f'{form}, µs' for form in forms) + ' | at the bandwidth of a copy, µs |')
    print('|---|---|' + '---:|' * (len(forms) + 1), flush=True)
    results = {}
    for layer in depthwise_layers(networks):
        keys = jax.random.split(jax.random.key(0), 3)
        inputs = jax.random.normal(keys[0], (BATCH, layer.side, layer.side, layer.channels), jnp.bfloat16)
        kernel = jax.random.normal(keys[1], (layer.taps, layer.taps, 1, layer.channels), jnp.bfloat16)
        pads = explicit_pads('SAME', inputs.shape[1:3], kernel.shape[:2], layer.stride, 1)
        options = ConvOptions(layer.stride, 1, pads, layer.channels)
        outputs = jax.eval_shape(functools.partial(convolve_plainly, options), inputs, kernel)
        gradient = jax.random.normal(keys[2], outputs.shape, jnp.bfloat16)
        floor = BYTES_OF_BFLOAT16 * (inputs.size + gradient.size) / bandwidth
        rows = collections.defaultdict(dict)
        for form, convolve in forms.items():
            for name, function in _passes(functools.partial(convolve, options)).items():
                try:
                    rows[name][form] = 1e6 * _seconds(jax.jit(function), inputs, kernel, gradient)
                except Exception as error:  # one form that fails must not cost the others
                    print(f'{layer} {name} {form}: {type(error).__name__} {str(error)[:200]}', flush=True)
        for name, times in rows.items():
            cells = ' | '.join(f'{times[form]:.0f}' if form in times else '' for form in forms)
            words = f'{layer.side} px, {layer.channels}, {layer.taps}x{layer.taps}, stride {layer.stride}'
            print(f'| {words} | {name} | {cells} | {1e6 * floor:.0f} |', flush=True)
        results[json.dumps(layer)] = {**rows, 'floor': 1e6 * floor}
    return results


def _passes(convolve: Callable) -> dict[str, Callable]:
    import jax

    def inputs_gradient(inputs, kernel, gradient):
        return jax.vjp(lambda inputs: convolve(inputs, kernel), inputs)[1](gradient)

    def kernel_gradient(inputs, kernel, gradient):
        return jax.vjp(lambda kernel: convolve(inputs, kernel), kernel)[1](gradient)

    forward = lambda inputs, kernel, gradient: convolve(inputs, kernel)  # noqa: E731
    return {'forward': forward, 'gradient of inputs': inputs_gradient, 'gradient of kernel': kernel_gradient}


def _seconds(function: Callable, *arrays, calls: int = 10, repeats: int = 5) -> float:
    """A call, the median of some repeats."""
    import jax

    jax.block_until_ready(function(*arrays))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            result = function(*arrays)
        jax.block_until_ready(result)
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times)


def copy_bandwidth() -> float:
    """Bytes a second, read and written, of a copy of 4 GB."""
    import jax
    import jax.numpy as jnp

    array = jnp.ones(1 << 30, jnp.float32)
    return 2 * array.nbytes / _seconds(jax.jit(lambda array: array + 1), array)


def race_networks(task: str, batches: Sequence[int], arguments: argparse.Namespace, bandwidth: float) -> dict:
    """A race of each network at each batch size."""
    results = {}
    known = (*CONTENDERS, *FORMS) if task == 'train' else CONTENDERS
    contenders = [one for one in known if one.name == OURS or any(part in one.name for part in arguments.only)]
    for network in arguments.networks:
        for batch in batches:
            if time.monotonic() + RACE_SECONDS > arguments.deadline:
                print(f'no time is left for {task}, {network}, batch {batch}', flush=True)
                continue
            options = {'network': network, 'batch': batch, 'size': SIZE, 'dtype': 'bfloat16', 'run_ahead': batch > 1}
            start = time.perf_counter()
            speeds, accessed = race(contenders, task, options, rounds=arguments.rounds, seconds=arguments.seconds)
            print(f'{task}, {network}, batch {batch}, {time.perf_counter() - start:.0f} s')
            if OURS in speeds:
                print(table(speeds, OURS))
            shares = {}
            for name, count in accessed.items():
                shares[name] = count * statistics.median(speeds[name]) / batch / bandwidth
                print(f'{name}: {count / 1e9:.2f} GB a step, {shares[name]:.0%} of the roofline')
            print(flush=True)
            results[f'{network}, {batch}'] = {'images_per_second': speeds, 'bytes': accessed, 'shares': shares}
            _write(arguments.out, task, results)
    return results


def train_cifar10(arguments: argparse.Namespace) -> dict[str, Any]:
    """`configs/cifar10_gpu.py`: the accuracy on the test set, and the seconds of the whole command."""
    workdir = arguments.out / 'cifar10'
    command = [sys.executable, 'train.py', '--config=configs/cifar10_gpu.py', f'--workdir={workdir}']
    start = time.perf_counter()
    subprocess.run([*command, f'--config.data.dir={arguments.cifar10}'], check=True, timeout=CIFAR10_SECONDS)
    found = json.loads((workdir / 'summary.json').read_text())
    return {'seconds': time.perf_counter() - start, **found}


def facts(bandwidth: float) -> dict[str, Any]:
    """The card, its driver, what runs on it, and the day."""
    query = ['nvidia-smi', '--query-gpu=name,driver_version,memory.total', '--format=csv,noheader']
    card = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    date = datetime.date.today().isoformat()
    return {'card': card, 'copy_bandwidth': bandwidth, 'versions': versions(), 'date': date}


def main() -> None:
    """Runs the sections one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=pathlib.Path, required=True)
    parser.add_argument('--sections', nargs='+', choices=SECTIONS, default=SECTIONS)
    parser.add_argument('--cifar10', help='the folder of images that configs/cifar10_gpu.py trains on')
    parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=NETWORKS[:2])
    parser.add_argument('--batches', type=int, nargs='+', default=(BATCH, 1), help='of inference')
    parser.add_argument('--only', nargs='+', default=[''], help='parts of the names of those that race with ours')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=1.0, help='that each program runs in each round')
    parser.add_argument('--minutes', type=float, default=9.0, help='after so many, no race is started')
    arguments = parser.parse_args()
    arguments.deadline = time.monotonic() + 60 * arguments.minutes
    arguments.out.mkdir(parents=True, exist_ok=True)
    # The programs of the races stay small beside each other, and are found again when their bytes are asked for.
    os.environ |= {
        'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
        'JAX_COMPILATION_CACHE_DIR': str(arguments.out.absolute() / 'programs'),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }
    bandwidth = _alone(copy_bandwidth)
    _write(arguments.out, 'facts', known := facts(bandwidth))
    print(', '.join(f'{name} {value}' for name, value in known.items()), flush=True)
    sections = {
        'depthwise': lambda: _alone(measure_depthwise, arguments.networks, bandwidth),
        'train': lambda: race_networks('train', (BATCH,), arguments, bandwidth),
        'inference': lambda: race_networks('inference', arguments.batches, arguments, bandwidth),
        'cifar10': lambda: train_cifar10(arguments),
    }
    for name in arguments.sections:
        if name != 'cifar10' or arguments.cifar10:
            _write(arguments.out, name, sections[name]())


def _alone(function: Callable, *args) -> Any:
    """Calls it in a process of its own, whose memory on the device is free again afterwards."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:
        return pool.submit(function, *args).result()


def _write(folder: pathlib.Path, name: str, results: Mapping) -> None:
    (folder / f'{name}.json').write_text(json.dumps(results, indent=2))


if __name__ == '__main__':
    main()
