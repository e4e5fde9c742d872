"""The training step of this project and the one that anybody would write in Flax, compiled for the same devices.

    python -m benchmarks.compiled_step --topology=v3:4x4 [--network=mobilenet_v2 ...] [--batch=4096] [--json=FILE]

Both have the same network, precision (bfloat16), optimizer, averages and losses, under one `pmap`. No device needs to
be present: bytes, FLOPs and memory are the compiler's own report on one device and one step, a cost model and no
measurement. "Least share" is what each convolution and product must read and write, over what the program
does. A topology is one that libtpu knows (v3:4x4, v4:2x2x4, v5e:4x4, v6e:2x4), cpu:N, or gpu, the one at hand.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.contenders import CLASSES
from benchmarks.contenders.flax_plain import PlainNetwork
from mobilenets_jax.commands.compile import FLOPS_PER_MADD, MIB, costs, set_fake_devices, tpu_devices
from mobilenets_jax.models import create_model
from mobilenets_jax.ops.backend import compiling_for
from mobilenets_jax.report.counts import count_module, product_sizes
from mobilenets_jax.training import parallel
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.ema import EmaOptions
from mobilenets_jax.training.optimizers import WeightDecayOptions, create_optimizer
from mobilenets_jax.training.state import make_init
from mobilenets_jax.training.step import make_train_step

NETWORKS = ('mobilenet_v1', 'mobilenet_v2', 'mobilenet_v3_large', 'mobilenet_v3_small')
SIZE = 224
RATE, DECAY, SMOOTHING, EMA_DECAY = 0.1, 1e-5, 0.1, 0.9999
RMSPROP = {'decay': 0.9, 'momentum': 0.9, 'epsilon': 1e-3}
BYTES_OF_BFLOAT16 = 2
PASSES = 3  # forward, and a gradient for each of the two operands


def lower_ours(network: str, devices: Sequence[jax.Device], per_device: int) -> jax.stages.Lowered:
    """The step that train.py runs."""
    model = create_model(network, CLASSES, dtype='bfloat16', dropout_rate=0.0)
    task = ClassificationTask(model=model, preprocess=_normalized, label_smoothing=SMOOTHING)
    ema, weight_decay = EmaOptions(decay=EMA_DECAY, batch_stats=False), WeightDecayOptions(rate=DECAY)
    optimizer = create_optimizer('rmsprop', lambda step: RATE, weight_decay=weight_decay, **RMSPROP)
    step = make_train_step(task, optimizer, ema=ema, weight_decay=weight_decay, seed=0)
    state = jax.eval_shape(make_init(model, optimizer, image_size=SIZE, ema=ema), _abstract_key())
    return parallel.parallel_train_step(step, devices).lower(state, _batch(len(devices), per_device))


def lower_plain(network: str, devices: Sequence[jax.Device], per_device: int) -> jax.stages.Lowered:
    """`nn.Conv`, `nn.BatchNorm` and optax, nothing else."""
    model = PlainNetwork(network, dtype=jnp.bfloat16)
    optimizer = optax.rmsprop(
        RATE, decay=RMSPROP['decay'], eps=RMSPROP['epsilon'], momentum=RMSPROP['momentum'], initial_scale=1.0
    )

    def init(key):
        variables = model.init(key, jnp.zeros((1, SIZE, SIZE, 3)), train=False)
        return {**variables, 'optimizer': optimizer.init(variables['params']), 'average': variables['params']}

    def loss(params, batch_stats, batch):
        variables = {'params': params, 'batch_stats': batch_stats}
        logits, updated = model.apply(variables, _normalized(batch), train=True, mutable=['batch_stats'])
        targets = optax.smooth_labels(jax.nn.one_hot(batch['label'], CLASSES), SMOOTHING)
        kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
        l2 = DECAY / 2 * sum(jnp.sum(jnp.square(kernel)) for kernel in kernels)
        value = optax.softmax_cross_entropy(logits, targets).mean() + l2
        return value, (updated['batch_stats'], jnp.mean(logits.argmax(-1) == batch['label']), value)

    def step(state, batch):
        results = jax.grad(loss, has_aux=True)(state['params'], state['batch_stats'], batch)
        gradients, (batch_stats, accuracy, value) = jax.lax.pmean(results, 'batch')
        updates, optimizer_state = optimizer.update(gradients, state['optimizer'])
        params = optax.apply_updates(state['params'], updates)
        average = jax.tree.map(lambda a, b: EMA_DECAY * a + (1 - EMA_DECAY) * b, state['average'], params)
        state = {'params': params, 'batch_stats': batch_stats, 'optimizer': optimizer_state, 'average': average}
        return state, (value, accuracy)

    mapped = jax.pmap(
        step, axis_name='batch', in_axes=(None, 0), out_axes=(None, None), donate_argnums=0, devices=devices
    )
    return mapped.lower(jax.eval_shape(init, _abstract_key()), _batch(len(devices), per_device))


PROGRAMS = {'ours': lower_ours, 'plain Flax': lower_plain}


def least_bytes(network: str, per_device: int) -> int:
    """What each convolution and product must read and write in bfloat16, once forward and twice backward."""
    return PASSES * BYTES_OF_BFLOAT16 * product_sizes(create_model(network, CLASSES), SIZE, per_device)


def report(network: str, devices: Sequence[jax.Device], batch: int) -> dict[str, dict]:
    """The costs of both programs, see `compile_command.costs`."""
    per_device = batch // len(devices)
    needed_flops = FLOPS_PER_MADD * count_module(create_model(network), SIZE).madds * per_device
    found = {}
    for name, lower in PROGRAMS.items():
        start = time.perf_counter()
        with compiling_for(devices[0].platform):
            compiled = lower(network, devices, per_device).compile()
        found[name] = {**costs(compiled, needed_flops), 'seconds': round(time.perf_counter() - start)}
    return found


def rows(network: str, found: dict[str, dict], least: int) -> list[str]:
    """Of a Markdown table: a row a program."""
    plain = found['plain Flax']['bytes_accessed']
    lines = []
    for name, cost in found.items():
        accessed, collectives = cost['bytes_accessed'], sum(cost['collectives'].values())
        cells = (
            network,
            name,
            f'{accessed / MIB:,.0f} MiB',
            f'{accessed / plain:.2f}',
            f'{least / accessed:.0%}',
            f'{cost["temporary_bytes"] / MIB:,.0f} MiB',
            f'{cost["flops"] / 1e9:,.1f} G',
            f'{collectives}, {cost["collective_bytes"] / MIB:.1f} MiB',
        )
        lines.append(f'| {" | ".join(cells)} |')
    return lines


HEADER = (
    '| network | program | bytes accessed | over plain Flax | least share | temporary | FLOPs | collectives |\n'
    '|---|---|---:|---:|---:|---:|---:|---:|'
)


def devices_of(topology: str) -> Sequence[jax.Device]:
    """The devices of a topology, present or not."""
    kind, _, extent = topology.partition(':')
    if kind == 'cpu':
        set_fake_devices(extent)
    return jax.devices(kind) if kind in ('cpu', 'gpu') else tpu_devices(topology)


def main() -> None:
    """Compiles, and prints a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--topology', default='v3:4x4')
    parser.add_argument('--network', nargs='+', default=NETWORKS)
    parser.add_argument('--batch', type=int, default=4096, help='global')
    parser.add_argument('--json', type=pathlib.Path)
    arguments = parser.parse_args()
    devices = devices_of(arguments.topology)
    per_device, results = arguments.batch // len(devices), {}
    kind = devices[0].device_kind
    print(f'{arguments.topology}: {len(devices)} x {kind}, {per_device} images each, jax {jax.__version__}')
    print(HEADER, flush=True)
    for network in arguments.network:
        results[network] = report(network, devices, arguments.batch)
        print('\n'.join(rows(network, results[network], least_bytes(network, per_device))), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2))


def _normalized(batch, train=True):
    return batch['image'].astype(jnp.float32) / 127.5 - 1


def _batch(devices: int, per_device: int) -> dict[str, jax.ShapeDtypeStruct]:
    image = jax.ShapeDtypeStruct((devices, per_device, SIZE, SIZE, 3), np.uint8)
    return {'image': image, 'label': jax.ShapeDtypeStruct((devices, per_device), np.int32)}


def _abstract_key() -> jax.ShapeDtypeStruct:
    return jax.eval_shape(jax.random.key, 0)


if __name__ == '__main__':
    main()
