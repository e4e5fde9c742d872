"""This project: the step that train.py runs, and a network with its batch norms folded."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import depthwise_forms
from benchmarks.contenders import CLASSES, examples
from mobilenets_jax.inference import freeze
from mobilenets_jax.models import create_model
from mobilenets_jax.ops.backend import backend, compiling_for
from mobilenets_jax.ops.marked import FORMS
from mobilenets_jax.training import parallel
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.ema import EmaOptions
from mobilenets_jax.training.optimizers import WeightDecayOptions, create_optimizer
from mobilenets_jax.training.state import create_state, make_init
from mobilenets_jax.training.step import make_train_step

PyTree = Any
wait = jax.block_until_ready


def train(
    network: str, batch: int, size: int, dtype: str = 'float32', plain: bool = False, depthwise: str = ''
) -> Callable:
    """A step of SGD with momentum.

    `plain`: with the operations that XLA has, as on a TPU. `depthwise`: on a GPU one of `depthwise_forms.FORMS`.
    """
    _take_forms(depthwise)
    model = create_model(network, CLASSES, dtype=dtype, dropout_rate=0.0)
    task = ClassificationTask(model=model, preprocess=lambda batch, train: batch['image'])
    optimizer = create_optimizer('sgd', lambda step: 0.01, momentum=0.9)
    ema, weight_decay = EmaOptions(decay=0.0), WeightDecayOptions(rate=0.0)
    step = parallel.parallel_train_step(make_train_step(task, optimizer, ema=ema, weight_decay=weight_decay, seed=0))
    state = parallel.replicate(create_state(make_init(model, optimizer, image_size=size, ema=ema), 0))
    images, labels = examples(batch, size)
    (data,) = parallel.put_batches([{'image': images[None], 'label': labels[None]}])

    def run() -> PyTree:
        nonlocal state
        with compiling_for('tpu' if plain else backend()):
            state, metrics = step(state, data)
        return metrics

    def lower() -> jax.stages.Lowered:
        with compiling_for('tpu' if plain else backend()):
            return step.lower(state, data)

    run.lower = lower
    return run


def inference(network: str, batch: int, size: int, dtype: str = 'float32', depthwise: str = '') -> Callable:
    """The logits of one batch that lies on the device; `depthwise` as in `train`."""
    _take_forms(depthwise)
    jax.config.update('jax_cpu_enable_async_dispatch', False)  # nothing to do while the network runs
    model = create_model(network, CLASSES, dtype=dtype)
    images = jax.device_put(examples(batch, size)[0])
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images[:1])
    classify = freeze(model, _as_if_trained(variables))

    def run() -> jax.Array:
        return classify(images)

    run.lower = lambda: classify.lower(images)
    return run


def _take_forms(depthwise: str) -> None:
    if depthwise:
        FORMS['gpu'] = depthwise_forms.FORMS[depthwise]


def _as_if_trained(variables):
    """No array is all ones or zeros after training; XLA would make such a constant anew in each call."""
    generator = np.random.default_rng(0)
    return jax.tree.map(
        lambda array: array + generator.uniform(0, 0.01, array.shape).astype(array.dtype), jax.device_get(variables)
    )
