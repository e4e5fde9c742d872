"""Compares ways to search on published tables alone: `python -m benchmarks.search_on_tables TABLES --out=FOLDER`.

TABLES is a folder with two files of Once-for-All: `acc_predictor.pth`, which predicts the ImageNet accuracy of every
network of its space, and `224_lookup_table.yaml`, the latencies of its blocks on a Samsung Note10. Nothing is
trained, and the accuracies are predicted ones. It takes a minute and a half on two cores.
"""

import argparse
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import matplotlib
import numpy as np

from mobilenets_jax.search.controllers import AgingEvolution, Controller, RandomInBand, Reinforce
from mobilenets_jax.search.latency import latency_model
from mobilenets_jax.search.reward import get_reward
from mobilenets_jax.search.space import Space
from mobilenets_jax.search.spaces import get_space
from mobilenets_jax.weights.files import read

TARGETS = (32.0, 40.0)  # milliseconds
EVALUATIONS = 3000
SEEDS = 6
LAYERS = 20


class Surrogate:
    """The predictor and the table as functions of decisions.

    Args:
        tables: the folder of both files.

    Attributes:
        space: Once-for-All's.
    """

    def __init__(self, tables: pathlib.Path):
        self.space = get_space('once_for_all')
        arrays = read(tables / 'acc_predictor.pth').arrays
        self._layers = [
            (np.asarray(arrays[f'{number}.weight'], float).T, np.asarray(arrays[f'{number}.bias'], float))
            for number in (0, 2, 4, 6)
        ]
        self._base, self._blocks = _additive(self.space, str(tables / '224_lookup_table.yaml'))

    def accuracy(self, decisions: np.ndarray) -> np.ndarray:
        """Predicted ImageNet top-1 in [0, 1], float [N], of decisions, int [N, 45]."""
        there = self.space.in_force(decisions)
        features = np.zeros((len(decisions), 128))
        for part, first in enumerate((5, 5 + LAYERS)):  # kernels, expansions
            for layer in range(LAYERS):
                rows = np.flatnonzero(there[:, first + layer])
                features[rows, 60 * part + 3 * layer + decisions[rows, first + layer]] = 1
        features[:, 120 + (224 - 112) // 16] = 1  # the image size
        x = features
        for number, (weight, bias) in enumerate(self._layers):
            x = x @ weight + bias
            x = np.maximum(x, 0) if number < 3 else x
        return x[:, 0]

    def milliseconds(self, decisions: np.ndarray) -> np.ndarray:
        """Latency, float [N], of decisions, int [N, 45]."""
        kernels, expansions = decisions[:, 5 : 5 + LAYERS], decisions[:, 5 + LAYERS :]
        there = self.space.in_force(decisions)[:, 5 : 5 + LAYERS]
        return self._base + (self._blocks[np.arange(LAYERS), kernels, expansions] * there).sum(axis=1)


def _additive(space: Space, path: str) -> tuple[float, np.ndarray]:
    """The table as milliseconds of [layer, kernel, expansion], and what is left for all other parts.

    Every block's latency depends on its own decisions alone, so that a change of one layer of the deepest, smallest
    network gives it; of the layers that are always there the sum is known, which is kept in `base`.
    """
    model = latency_model('once_for_all', path)
    deepest = np.zeros(len(space.choices), int)
    deepest[:5] = 2
    whole = model.milliseconds(space.spec(deepest))
    blocks, shorter = np.zeros((LAYERS, 3, 3)), 0.0
    for layer in range(LAYERS):
        if layer % 4 > 1:  # can be left out: the difference of two depths
            depths = deepest.copy()
            depths[layer // 4] = layer % 4 - 2
            without = model.milliseconds(space.spec(depths))
            depths[layer // 4] += 1
            blocks[layer] = model.milliseconds(space.spec(depths)) - without
            shorter += blocks[layer, 0, 0]
        for kernel in range(3):
            for expansion in range(3):
                changed = deepest.copy()
                changed[5 + layer], changed[5 + LAYERS + layer] = kernel, expansion
                blocks[layer, kernel, expansion] += model.milliseconds(space.spec(changed)) - whole
    return whole - shorter, blocks


class History(NamedTuple):
    """All networks of a search, in their order.

    Attributes:
        accuracy: in [0, 1], float [N].
        milliseconds: float [N].
    """

    accuracy: np.ndarray
    milliseconds: np.ndarray

    def best(self, target: float) -> np.ndarray:
        """The best accuracy within the target so far, in percent, float [N]; 0 before there is one."""
        return 100 * np.maximum.accumulate(np.where(self.milliseconds <= target, self.accuracy, 0))


def search(surrogate: Surrogate, controller: Controller, reward: Callable, batch: int, seed: int) -> History:
    """Runs a search of `EVALUATIONS` networks, `batch` at a time."""
    state, accuracies, latencies = controller.init(), [], []
    for step in range(EVALUATIONS // batch):
        decisions = controller.propose(state, np.random.default_rng((seed, step)), batch)
        accuracy, milliseconds = surrogate.accuracy(decisions), surrogate.milliseconds(decisions)
        state = controller.observe(state, decisions, reward(accuracy, milliseconds))
        accuracies.append(accuracy)
        latencies.append(milliseconds)
    return History(np.concatenate(accuracies), np.concatenate(latencies))


def compare(surrogate: Surrogate, target: float) -> dict[str, list[History]]:
    """The searches of every seed, by the name of the method."""
    space, latency = surrogate.space, surrogate.milliseconds
    methods: Mapping[str, tuple] = {
        'random in band': (RandomInBand(space, latency, target), lambda accuracy, _: accuracy, 50),
        'REINFORCE, soft -0.07': (Reinforce(space), get_reward('soft', target), 8),
        'REINFORCE, soft -0.15': (Reinforce(space), get_reward('soft', target, -0.15), 8),
        'REINFORCE, absolute': (Reinforce(space), get_reward('absolute', target), 8),
        'aging evolution': (AgingEvolution(space, latency, target), lambda accuracy, _: accuracy, 1),
    }
    return {name: [search(surrogate, *method, seed) for seed in range(SEEDS)] for name, method in methods.items()}


def summary(histories: Mapping[str, list[History]], target: float) -> dict[str, dict[str, float]]:
    """Of each method the best accuracies, their deviation over seeds, and the latency of the last 200 networks."""
    rows = {}
    for name, runs in histories.items():
        best = np.array([run.best(target) for run in runs])
        rows[name] = {f'best of {count}': round(best[:, count - 1].mean(), 2) for count in (100, 1000, EVALUATIONS)}
        rows[name]['deviation'] = round(best[:, -1].std(), 2)
        rows[name]['last ms'] = round(float(np.mean([run.milliseconds[-200:].mean() for run in runs])), 1)
    return rows


def draw(found: Mapping[float, Mapping[str, list[History]]], path: pathlib.Path) -> None:
    """The best accuracy so far and the latency of what is tried, over the number of networks, for each target."""
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(found), figsize=(10, 6.5), sharex=True, layout='constrained')
    for column, (target, histories) in enumerate(found.items()):
        for name, runs in histories.items():
            best = np.array([run.best(target) for run in runs])
            count = np.arange(1, best.shape[1] + 1)
            (line,) = axes[0, column].plot(count, best.mean(axis=0), label=name)
            axes[0, column].fill_between(count, best.min(axis=0), best.max(axis=0), color=line.get_color(), alpha=0.15)
            latency = np.array([run.milliseconds for run in runs]).mean(axis=0)
            means = latency.reshape(-1, 50).mean(axis=1)
            axes[1, column].plot(np.arange(25, len(latency), 50), means, color=line.get_color())
        axes[0, column].set(title=f'target {target:g} ms', ylim=(80, 84.2), xscale='log', xlim=(50, None))
        axes[1, column].axhline(target, color='black', linewidth=0.8, linestyle=':')
        axes[1, column].set(xlabel='networks tried', xscale='log')
    axes[0, 0].set_ylabel('best predicted top-1 within the target, %')
    axes[1, 0].set_ylabel('mean latency of what is tried, ms')
    axes[0, 0].legend(fontsize=8, loc='upper left')
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Prints the table of each target and draws both."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('tables', type=pathlib.Path)
    parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('.'))
    arguments = parser.parse_args()
    surrogate = Surrogate(arguments.tables)
    found = {target: compare(surrogate, target) for target in TARGETS}
    for target, histories in found.items():
        print(json.dumps({'target ms': target, **summary(histories, target)}, indent=1))
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw(found, arguments.out / 'search_on_tables.png')


if __name__ == '__main__':
    main()
