"""What found networks are worth on CIFAR-10, each trained from scratch by `configs/cifar10.py`, with several seeds.

    python -m benchmarks.search_on_cifar10 draw --search=WORKDIR --data=DIR --count=8 --out=TABLES
    python -m benchmarks.search_on_cifar10 train --data=DIR --out=RUNS --tables F.json ... --widths 0.75 ...

`draw` takes the workdir of a search with shared weights, draws random networks of 90 to 100 % of the latency of the one
that it found, and writes the tables of all, with the accuracy that each has with the shared weights: on the test
images, by the statistics of batches of all classes.

`train` trains each table, and MobileNetV3-Small at each width, and prints what they reach beside their milliseconds at
224 px, as the papers' fit predicts them. Finished runs are not repeated, so that it may be killed and started again.
DIR is the folder of `configs/cifar10.py`.
"""

import argparse
import functools
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import matplotlib
import numpy as np
from etils import epath
from scipy.stats import spearmanr

from configs.search.common import get_weight_sharing
from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.config import ConfigView
from mobilenets_jax.continuation import newest_checkpoint
from mobilenets_jax.models import create_model, get_spec
from mobilenets_jax.models.found import canonical
from mobilenets_jax.report.counts import count_module
from mobilenets_jax.saved_config import with_saved
from mobilenets_jax.search.controllers import random_in_band
from mobilenets_jax.search.found import Found
from mobilenets_jax.search.latency import latency_model
from mobilenets_jax.search.masks import Sizes, masked
from mobilenets_jax.tables import markdown
from mobilenets_jax.training.forward import forward_in_training
from mobilenets_jax.training.frozen import NOTHING
from mobilenets_jax.weight_sharing_search import WeightSharingSearch

BAND = 0.9  # the least latency of a random network, as a part of the found one's
SHARED = 'shared.json'
NETWORK = 'mobilenet_v3_small'
TRAIN = ('--config=configs/cifar10.py', '--config.model.num_removed_strides=1', '--config.model.dtype=float32')


def draw(arguments: argparse.Namespace) -> None:
    """Writes random networks of a search's space, and what they reach with the shared weights."""
    workdir = epath.Path(arguments.search)
    newest = newest_checkpoint(workdir / 'checkpoints')
    if newest is None:
        raise SystemExit(f'error: --search={workdir} holds no checkpoint of a search.')
    saved, _ = with_saved(get_weight_sharing(), newest.meta['config'], f'checkpoint {newest.step}')
    config = ConfigView(saved.to_dict())
    search = WeightSharingSearch(config.updated({'data.dir': str(arguments.data)}), {})
    accuracy, best = shared_accuracy(search, workdir)
    networks = search.networks
    space, most = networks.super_network.space, networks.milliseconds(best)
    latency = lambda rows: np.array([networks.milliseconds(row) for row in rows])  # noqa: E731
    rng = np.random.default_rng(arguments.seed)
    drawn = random_in_band(space, latency, BAND * most, most, rng, arguments.count)
    arguments.out.mkdir(parents=True, exist_ok=True)
    reached = {}
    for name, row in {'found': best, **{f'random{number}': row for number, row in enumerate(drawn, 1)}}.items():
        reached[name] = accuracy(row)
        found = Found(name, search.table(networks.super_network, row), {})
        (arguments.out / f'{name}.json').write_text(found.json)
        print(f'{name}: {networks.milliseconds(row):.3f} ms, {reached[name]:.2f} % with shared weights', flush=True)
    (arguments.out / SHARED).write_text(json.dumps(reached, indent=1))


def shared_accuracy(
    search: WeightSharingSearch, workdir: epath.Path
) -> tuple[Callable[[np.ndarray], float], np.ndarray]:
    """The test top-1 of decisions with the weights of a finished search, in percent, and the likeliest decisions."""
    experiment, task, super_network = search.experiment, search.task.task, search.networks.super_network
    with CheckpointManager(workdir / 'checkpoints', identity=experiment.identity) as checkpoints:
        state = jax.device_get(checkpoints.restore(search.abstract_state()).state)
    params, batch_stats = state.train.params, state.train.batch_stats

    @jax.jit
    def correct(sizes: Sizes, batch: Mapping[str, Any]) -> jax.Array:
        own, images = masked(params, sizes), task.preprocess(batch, train=False)
        logits, _ = forward_in_training(task.model, own, batch_stats, images, jax.random.key(0), NOTHING)
        return logits.argmax(axis=-1) == batch['label']

    examples = _shuffled(experiment.dataset.eval_batches(experiment.layout))
    first = range(0, len(examples['label']), experiment.batch_size)
    batches = [{name: rows[at : at + experiment.batch_size] for name, rows in examples.items()} for at in first]

    def accuracy(decisions: np.ndarray) -> float:
        sizes = super_network.sizes(decisions)
        return 100 * float(np.concatenate([correct(sizes, batch) for batch in batches]).mean())

    return accuracy, search.networks.controller.best(state.policy)


def _shuffled(batches: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """All examples of an evaluation, which come class by class, in a random order: batches then have all classes."""
    # (devices, images, ...) -> (devices * images, ...)
    flat = [{name: rows.reshape(-1, *rows.shape[2:]) for name, rows in batch.items()} for batch in batches]
    examples = {name: np.concatenate([batch[name] for batch in flat]) for name in flat[0]}
    order = np.random.default_rng(0).permutation(np.flatnonzero(examples['mask'] > 0))
    return {name: rows[order] for name, rows in examples.items()}


def train(arguments: argparse.Namespace) -> None:
    """Trains networks and prints their table."""
    networks = {}
    for path in arguments.tables:
        networks[path.stem] = ('--config.model.width_multiplier=1', f'--config.model.spec_file={path}')
    for width in arguments.widths:
        networks[f'width {width:g}'] = (f'--config.model.name={NETWORK}', f'--config.model.width_multiplier={width}')
    results = {name: {'top1': []} for name in networks}
    for seed in range(1, arguments.seeds + 1):  # all networks of a seed before those of the next
        for name, flags in networks.items():
            results[name]['top1'].append(top1(arguments, name, seed, flags))
            print(f'{name}, seed {seed}: {results[name]["top1"][-1]:.2f} %', flush=True)
    for path in arguments.tables:
        results[path.stem] |= facts(*canonical(path.read_text(), str(path)), width_multiplier=1.0)
    for width in arguments.widths:
        results[f'width {width:g}'] |= facts(NETWORK, '', width_multiplier=width)
    (arguments.out / 'results.json').write_text(json.dumps(results, indent=1))
    print('\n'.join(as_table(results)))
    plot(results, arguments.out / 'results.png')
    for path in {path.parent / SHARED for path in arguments.tables}:
        if path.exists():
            reached = json.loads(path.read_text())
            names = [name for name in reached if name in results]
            own = [float(np.mean(results[name]['top1'])) for name in names]
            correlation = spearman([reached[name] for name in names], own)
            print(f'rank correlation of shared and own weights over {len(names)} networks: {correlation:.2f}')


def top1(arguments: argparse.Namespace, name: str, seed: int, flags: tuple[str, ...]) -> float:
    """Test top-1 in percent of a network after its training, which is not repeated."""
    workdir = arguments.out / f'{name.replace(" ", "_")}-{seed}'
    summary = workdir / 'summary.json'
    if not (summary.exists() and json.loads(summary.read_text())['finished']):
        run = (f'--workdir={workdir}', f'--config.data.dir={arguments.data}', f'--config.seed={seed}')
        length = (f'--config.num_epochs={arguments.epochs}', f'--config.evaluation.every_epochs={arguments.epochs}')
        command = [sys.executable, 'train.py', *TRAIN, *run, *length, *flags]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads(summary.read_text())['test_top1']


def facts(name: str, table: str, **fields) -> dict[str, Any]:
    """Milliseconds at 224 px, and the parameters and multiply-adds of 1000 classes, in millions."""
    counts = count_module(create_model(name, table=table, **fields), 224)
    milliseconds = latency_model('papers_pixel1').milliseconds(get_spec(name, table=table, **fields), 224)
    return {'ms': round(milliseconds, 3), 'params': counts.params / 1e6, 'madds': counts.madds / 1e6}


def as_table(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Markdown, a line for each network."""
    rows = [('network', 'predicted ms', 'parameters, M', 'multiply-adds, M', 'top-1, %', 'deviation', 'each seed')]
    for name, row in sorted(results.items(), key=lambda item: -item[1]['ms']):
        values = np.array(row['top1'])
        numbers = (f'{row["ms"]:.2f}', f'{row["params"]:.2f}', f'{row["madds"]:.1f}', f'{values.mean():.2f}')
        deviation = f'{values.std(ddof=1):.2f}' if len(values) > 1 else '-'
        rows.append((name, *numbers, deviation, ', '.join(f'{value:.2f}' for value in values)))
    return markdown(rows, text_columns=(0, 6))


def plot(results: Mapping[str, Mapping[str, Any]], path: pathlib.Path) -> None:
    """The accuracies over the milliseconds: tables, and the widths of the published network."""
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout='constrained')
    for label, is_width in (('found networks', False), (f'widths of {NETWORK}', True)):
        rows = [row for name, row in results.items() if name.startswith('width ') == is_width]
        rows.sort(key=lambda row: row['ms'])
        if rows:
            means = np.array([np.mean(row['top1']) for row in rows])
            least = means - [np.min(row['top1']) for row in rows]
            most = [np.max(row['top1']) for row in rows] - means
            axes.errorbar([row['ms'] for row in rows], means, (least, most), marker='o', capsize=3, label=label)
    axes.set(xlabel='predicted milliseconds on a Pixel 1, 224 px', ylabel='CIFAR-10 test top-1, %')
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def spearman(first: list[float], second: list[float]) -> float:
    """Rank correlation in [-1, 1]; equal values share their mean rank."""
    return float(spearmanr(first, second).statistic)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    commands = parser.add_subparsers(required=True)
    path = functools.partial(dict, type=pathlib.Path, required=True)
    one = commands.add_parser('draw')
    one.add_argument('--search', **path(), help='workdir of a search with shared weights')
    one.add_argument('--count', type=int, default=8)
    one.add_argument('--seed', type=int, default=0)
    one.set_defaults(run=draw)
    other = commands.add_parser('train')
    other.add_argument('--tables', nargs='*', type=pathlib.Path, default=[])
    other.add_argument('--widths', nargs='*', type=float, default=[])
    other.add_argument('--seeds', type=int, default=3)
    other.add_argument('--epochs', type=float, default=3.0)
    other.set_defaults(run=train)
    for each in (one, other):
        each.add_argument('--data', **path(), help='folder of CIFAR-10, as of configs/cifar10.py')
        each.add_argument('--out', **path())
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == '__main__':
    main()
