"""A task that this project does not have: how bright an image is. It shows what all tasks share. No test in here.

`brightness.py SCRIPT --flag=value ...` runs train.py or eval.py with it.
"""

import csv
import functools
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from configs import base  # noqa: E402
from mobilenets_jax.errors import UserError  # noqa: E402
from mobilenets_jax.tasks import TASKS  # noqa: E402
from mobilenets_jax.tasks.definition import BatchView, Predicted, TaskDefinition  # noqa: E402
from mobilenets_jax.tasks.network import network_arguments  # noqa: E402
from mobilenets_jax.training.task import Metric, Task  # noqa: E402
from mobilenets_jax.weights.init_from import ALL_BUT_BACKBONE  # noqa: E402

NAME = 'brightness'


class Model(nn.Module):
    """The mean of each colour, normalised over the batch, and a line through it."""

    num_classes: int

    @nn.compact
    def __call__(self, images, *, train):
        """Estimates, [n, 1], and no endpoints."""
        x = images.mean(axis=(1, 2))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5, name='backbone')(x)
        return nn.Dense(1, name='estimate')(x), {}


class BrightnessTask(Task):
    """The squared distance of an estimate from the share of white in an image, in [0, 1]."""

    logged = (Metric(name='loss', label='squared', decimals=6), Metric(name='far', label='off by', unit='%'))
    metrics = (
        Metric(name='error', label='mean error', unit='%', decimals=3, higher_is_better=False, in_training='far'),
        Metric(name='worst', label='largest error', unit='%', higher_is_better=False),
    )
    headline = 'error'

    def __init__(self, model, preprocess):
        self._model = model
        self._preprocess = preprocess

    def loss(self, params, batch_stats, batch, key):
        """The mean square."""
        images = self._preprocess(batch, train=True)
        variables = {'params': params, 'batch_stats': batch_stats}
        (estimate, _), updated = self._model.apply(variables, images, train=True, mutable=['batch_stats'])
        distance = estimate[:, 0] - images.mean(axis=(1, 2, 3))
        sums = {'loss': (distance**2).sum(), 'distance': jnp.abs(distance).sum(), 'seen': jnp.asarray(len(images))}
        return (distance**2).mean(), (updated['batch_stats'], sums)

    def evaluate(self, params, batch_stats, batch):
        """No sums: the metrics are made of the rows."""
        images = self._preprocess(batch, train=False)
        estimate, _ = self._model.apply({'params': params, 'batch_stats': batch_stats}, images, train=False)
        return self.measure(estimate, batch)

    def measure(self, outputs, batch):
        """Estimates of any network."""
        images = self._preprocess(batch, train=False)
        return {}, {'estimate': outputs, 'truth': images.mean(axis=(1, 2, 3))}

    def training_metrics(self, sums):
        """Per image."""
        return {'loss': sums['loss'] / sums['seen'], 'far': 100 * sums['distance'] / sums['seen']}


class Brightness(TaskDefinition):
    """See `TaskDefinition`."""

    measures = BrightnessTask
    head = ALL_BUT_BACKBONE
    examples = 'classification'
    images_per_device = 64

    def create_model(self, config, dataset):
        """Tiny."""
        return Model(network_arguments(config, dataset)['num_classes'])

    def create_task(self, config, dataset, model, frozen):
        """Without any field of its own."""
        return BrightnessTask(model, dataset.device_preprocess)

    def to_metrics(self, dataset, sums, rows):
        """In percent of the range."""
        error = np.abs(rows['estimate'][:, 0] - rows['truth'])
        return {'error': 100 * error.mean(), 'worst': 100 * error.max()}

    def write_report(self, folder, evaluation, dataset, model):
        """Every estimate."""
        with Path(folder, 'estimates.csv').open('w') as file:
            csv.writer(file).writerows([('estimate',), *evaluation.rows['estimate'].tolist()])

    def view_batch(self, config, dataset, batch, *, train):
        """The images and how bright they are."""
        images = np.asarray(jax.jit(functools.partial(dataset.device_preprocess, train=train))(batch))
        means = images.mean(axis=(1, 2, 3))
        return BatchView(images, [f'{mean:.3f}' for mean in means], 1 - images, [f'brightest: {means.max():.3f}'])

    def predict(self, arguments):
        """Says the names of the files."""
        return Predicted([{'image': image} for image in arguments.images], '\n'.join(arguments.images), print)

    def trained_network(self, arguments):
        """None is exported."""
        raise UserError(f'{NAME} is not exported.')


if __name__ == '__main__':
    TASKS[NAME] = Brightness()
    base.TASK_FIELDS[NAME] = lambda config: None
    sys.argv = sys.argv[1:]
    runpy.run_path(str(ROOT / sys.argv[0]), run_name='__main__')
