"""`compile`: the training step of a config, compiled for devices that need not be present, and what it costs there."""

import argparse
import collections
import json
import math
import os
import re
import time
from collections.abc import Sequence
from typing import Any

import jax

from mobilenets_jax.errors import UserError

MIB = 1 << 20
ITEM_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's32': 4, 'u32': 4, 'f32': 4, 'f64': 8, 's64': 8}
_COLLECTIVE = re.compile(
    r'= (?P<type>\(?\S.*?) (?P<name>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\('
)
_ARRAY = re.compile(r'\b(?P<dtype>[a-z]+\d*)\[(?P<shape>[\d,]*)\]')
# A gradient costs two more products for each of the forward pass; a multiply-add is two FLOPs.
FLOPS_PER_MADD = 2 * 3


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('compile', help='compile the training step for a TPU topology, and print its costs')
    parser.add_argument('--topology', required=True, help='e.g. v3:4x4 (32 cores; needs libtpu and no TPU), or cpu:8')
    parser.add_argument('--batch', type=int, help="global; by default the config's")
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    parser.set_defaults(run=run, reads_config=True)


def run(arguments: argparse.Namespace) -> None:
    """Reads `--config` and its overrides as train.py does."""
    kind, _, extent = arguments.topology.partition(':')
    if kind == 'cpu':
        set_fake_devices(extent)
    from mobilenets_jax import cli  # defines the flags

    cli.parse(['compile', *arguments.config_flags])
    config = cli.config_view()
    if arguments.batch is not None:
        config = config.updated({'batch_size': arguments.batch})
    devices = jax.devices('cpu') if kind == 'cpu' else tpu_devices(arguments.topology)
    report = {'topology': arguments.topology, **report_of(config, devices)}
    print(json.dumps(report, indent=2) if arguments.json else table(report), flush=True)


def set_fake_devices(count: str) -> None:
    """Divides the CPU into this number of devices; must be called before JAX looks for devices."""
    if not count.isdecimal() or not int(count):
        raise UserError(f"--topology='cpu:{count}' must give a number of devices, e.g. cpu:8.")
    os.environ['JAX_PLATFORMS'] = 'cpu'
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count={count}'


def tpu_devices(topology: str) -> Sequence[Any]:
    """The devices of a TPU topology, as libtpu describes them; none needs to be present."""
    os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')  # there is no TPU host to ask
    os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
    os.environ.setdefault('TPU_MIN_LOG_LEVEL', '3')
    os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
    from jax.experimental import topologies

    # On a v4 slice JAX sees chips, whose two cores work as one; libtpu would describe the cores.
    options = {'chip_config_name': 'megacore'} if topology.startswith('v4:') else {}
    try:
        return topologies.get_topology_desc(topology, 'tpu', **options).devices
    except Exception as error:  # libtpu is missing, or does not know the name: whatever it raises, its reason is shown
        cause = str(error).partition('\n')[0] or type(error).__name__
        raise UserError(
            f'--topology={topology!r} cannot be had: {cause}. It needs `pip install libtpu` and a name like v3:4x4, '
            'v4:2x2x4 or v5e:4x4.'
        ) from error


def report_of(config: Any, devices: Sequence[Any]) -> dict[str, Any]:
    """Compiles the training step that train.py would run on `devices`, and measures the program.

    Returns:
        Bytes and FLOPs are of one device and one step; see `table`.
    """
    from mobilenets_jax.experiment import Experiment
    from mobilenets_jax.ops.backend import compiling_for
    from mobilenets_jax.report.counts import count_module

    experiment = Experiment(config, compiled_for=devices)
    per_device = experiment.batch_size // len(devices)
    batch = {
        name: jax.ShapeDtypeStruct((len(devices), per_device, *field.shape), field.dtype)
        for name, field in experiment.dataset.train_signature.items()
    }
    start = time.perf_counter()
    with compiling_for(devices[0].platform):
        lowered = experiment.train_step().lower(experiment.abstract_state(), batch)
    report = {
        'model': experiment.identity.model,
        'devices': len(devices),
        'device_kind': devices[0].device_kind,
        'batch_size': experiment.batch_size,
        'per_device': per_device,
    }
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        return {**report, 'fits': False, 'reason': str(error).partition('\n')[0]}
    madds = count_module(experiment.model, config.image_size).madds
    return {
        **report,
        'fits': True,
        **costs(compiled, FLOPS_PER_MADD * madds * per_device),
        'seconds': round(time.perf_counter() - start, 1),
    }


def costs(compiled: Any, needed_flops: int) -> dict[str, Any]:
    """Memory, arithmetic and communication of a compiled program, for one device."""
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    found = collectives(compiled.as_text())
    return {
        'argument_bytes': memory.argument_size_in_bytes,
        'temporary_bytes': memory.temp_size_in_bytes,
        'flops': cost['flops'],
        'needed_flops': needed_flops,
        'flops_over_needed': cost['flops'] / needed_flops,
        'bytes_accessed': cost['bytes accessed'],
        'collectives': dict(collections.Counter(name for name, _ in found)),
        'collective_bytes': sum(size for _, size in found),
        'largest_collective_bytes': max((size for _, size in found), default=0),
    }


def collectives(text: str) -> list[tuple[str, int]]:
    """The collective operations of a compiled program: their names and the bytes of their results."""
    return [(match['name'], _bytes(match['type'])) for match in _COLLECTIVE.finditer(text)]


def _bytes(types: str) -> int:
    """The size of an HLO type such as 'f32[3,4]{1,0}' or of a tuple of them."""
    return sum(
        ITEM_BYTES.get(array['dtype'], 0) * math.prod(int(size) for size in array['shape'].split(',') if size)
        for array in _ARRAY.finditer(types)
    )


def table(report: dict[str, Any]) -> str:
    """The report in words."""
    lines = [
        f'{report["model"]}, batch {report["batch_size"]} on {report["topology"]}: '
        f'{report["devices"]} x {report["device_kind"]}, {report["per_device"]} images each'
    ]
    if not report['fits']:
        return '\n'.join([*lines, f'  {"fits":18} no: {report["reason"]}'])
    rows = {
        'fits': 'yes',
        'memory: arguments': f'{report["argument_bytes"] / MIB:,.0f} MiB',
        'memory: temporary': f'{report["temporary_bytes"] / MIB:,.0f} MiB',
        'FLOPs': f'{report["flops"] / 1e9:,.1f} G, {report["flops_over_needed"]:.2f} times those of its convolutions',
        'bytes accessed': f'{report["bytes_accessed"] / MIB:,.0f} MiB',
        'collectives': ', '.join(f'{count} {name}' for name, count in report['collectives'].items()) or 'none',
        'collective bytes': f'{report["collective_bytes"] / MIB:,.2f} MiB, the largest '
        f'{report["largest_collective_bytes"] / MIB:,.2f} MiB',
        'compiled in': f'{report["seconds"]:.0f} s',
    }
    return '\n'.join([*lines, *(f'  {name:18} {value}' for name, value in rows.items())])
