"""What the loop saves, what it must never save, and how it keeps account of its time."""

import dataclasses
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mobilenets_jax.training import loop, parallel
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.progress import Progress, Timing, read_metrics
from mobilenets_jax.training.replicas import ReplicaError
from mobilenets_jax.training.state import TrainState
from mobilenets_jax.training.task import Metric

TASK = ClassificationTask(model=None, preprocess=None)
TOTAL_STEPS = 10
OPTIONS = loop.LoopOptions(
    total_steps=TOTAL_STEPS,
    batch_size=8,
    log_every=TOTAL_STEPS,
    eval_every=TOTAL_STEPS,
    checkpoint_every=4,
    replica_check_every=3,
    hang_timeout_seconds=60.0,
)


class Checkpoints:
    """Remembers what was saved."""

    def __init__(self):
        self.steps, self.metas, self.scores = [], [], []

    def save(self, step, state, *, meta, metric=None):
        assert int(state.step) == step
        self.steps.append(step)
        self.metas.append(meta)
        self.scores.append(metric)

    def wait(self):
        time.sleep(0.05)


def make_state():
    leaf = {'conv': {'kernel': jnp.ones((3, 3))}}
    return TrainState(jnp.int32(0), leaf, {'bn': {'mean': jnp.zeros(3)}}, (leaf,), leaf, {'bn': {'mean': jnp.zeros(3)}})


def train(
    workdir, change=lambda step, state, metrics: (state, metrics), timing=None, start_step=0, task=TASK, **others
):
    """Runs the loop with a step that only counts, its results handed through `change`; returns what was saved."""

    def train_step(state, batch):
        step = int(state.step) + 1
        metrics = {'loss': 8.0, 'l2': 0.5, 'grad_norm': 1.0, 'count': 8, 'correct': 4}
        state, metrics = change(step, state.replace(step=parallel.replicate(jnp.int32(step))), metrics)
        return state, parallel.replicate(jax.tree.map(np.float32, metrics))

    progress = Progress(
        workdir, measures=task, total_steps=TOTAL_STEPS, batch_size=8, start_step=start_step, timing=timing
    )
    checkpoints = Checkpoints()
    arguments = {
        'task': task,
        'batches': lambda position: iter([{'x': np.zeros((8, 1))}] * TOTAL_STEPS),
        'evaluate': lambda state: {'top1': 50.0, 'top5': 90.0, 'loss': 1.0, 'count': 8},
        'checkpoints': checkpoints,
        'progress': progress,
        'schedule': lambda step: 0.1,
        'options': OPTIONS,
        'stop': lambda step: False,
        **others,
    }
    try:
        loop.train(make_state(), train_step, **arguments)
    except RuntimeError as error:
        return checkpoints, error
    return checkpoints, None


def test_traces_the_steps_that_the_options_name(tmp_path):
    options, folder = dataclasses.replace(OPTIONS, profile_steps=(3, 4)), tmp_path / 'profile'
    assert train(tmp_path, options=options, profile_folder=folder)[0].steps == [4, 8, 10]
    assert len([*folder.rglob('*.xplane.pb')]) == 1


def test_saves_the_steps_that_are_due(tmp_path):
    checkpoints, error = train(tmp_path)
    assert (checkpoints.steps, error) == ([4, 8, 10], None)
    assert checkpoints.scores == [None, None, 50.0]  # the last step alone is evaluated


def test_the_best_checkpoint_is_that_of_the_task_s_headline_in_its_direction(tmp_path):
    class ByLoss(ClassificationTask):
        headline = 'loss'

    checkpoints, _ = train(tmp_path, task=ByLoss(model=None, preprocess=None))
    assert checkpoints.scores == [None, None, -1.0]  # a higher loss is the worse one


@pytest.mark.parametrize('field', ['loss', 'l2', 'grad_norm'])
@pytest.mark.parametrize(
    ('bad_step', 'window', 'saved'), [(3, '1 to 4', []), (5, '5 to 8', [4]), (10, '9 to 10', [4, 8])]
)
def test_no_state_after_a_loss_or_gradient_that_is_not_finite_is_saved(field, bad_step, window, saved, tmp_path):
    def spoil(step, state, metrics):
        return state, metrics | ({field: np.nan} if step == bad_step else {})

    checkpoints, error = train(tmp_path, spoil)
    assert isinstance(error, loop.NonFiniteLossError)
    assert f'not finite in steps {window}' in str(error)
    assert checkpoints.steps == saved
    # The metrics of these steps are there, in JSON that every reader takes: it has no word for NaN.
    *_, last = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / 'metrics.jsonl').open()]
    assert (last['kind'], last['step'], last['accuracy']) == ('train', int(window.split()[-1]), 50.0)
    assert {name: last[name] for name in ('loss', 'grad_norm')} == (
        {'loss': 1.5, 'grad_norm': None} if field == 'grad_norm' else {'loss': None, 'grad_norm': 1.0}
    )


def test_the_term_of_a_loss_that_is_not_finite_is_named(tmp_path):
    class TwoTerms(ClassificationTask):
        logged = tuple(Metric(name=name, label=name.replace('_', ' ')) for name in ('loss', 'class_loss', 'box_loss'))

        def training_metrics(self, sums):
            return dict(sums)

    def two_terms(step, state, metrics):
        return state, metrics | {'loss': np.nan, 'class_loss': 1.0, 'box_loss': np.nan}

    _, error = train(tmp_path, two_terms, task=TwoTerms(model=None, preprocess=None))
    assert str(error) == 'A loss or gradient is not finite in steps 1 to 4 (box loss); none of them was saved.'


@pytest.mark.parametrize(
    ('field', 'name'),
    [
        ('params', 'params/conv/kernel'),
        ('batch_stats', 'batch_stats/bn/mean'),
        ('opt_state', 'opt_state/0/conv/kernel'),
        ('ema_params', 'ema_params/conv/kernel'),
        ('ema_batch_stats', 'ema_batch_stats/bn/mean'),
    ],
)
def test_device_that_goes_its_own_way_stops_the_run_and_its_leaf_is_named(field, name, tmp_path):
    def flip_a_bit(leaf):
        copies = [np.array(shard.data) for shard in leaf.addressable_shards]
        copies[5].view(np.uint8).flat[3] ^= 1
        copies = [
            jax.device_put(copy, shard.device) for copy, shard in zip(copies, leaf.addressable_shards, strict=True)
        ]
        return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, copies)

    def part(step, state, metrics):
        state = state.replace(**{field: jax.tree.map(flip_a_bit, getattr(state, field))}) if step == 5 else state
        return state, metrics

    checkpoints, error = train(tmp_path, part)
    assert isinstance(error, ReplicaError)
    assert str(error).startswith(f'After step 6 {name} of device 5 of host 0 differ from those of the first device')
    assert checkpoints.steps == [4]
    assert read_metrics(tmp_path / 'metrics.jsonl')[-1]['step'] == 6  # which no log line was due for


def test_time_is_accounted_for_over_restarts_and_lost_steps(tmp_path):
    first, _ = train(tmp_path)
    timing = first.metas[1]['timing']
    last = read_metrics(tmp_path / 'metrics.jsonl')[-2]
    assert (last['step'], last['starts']) == (10, 1)
    assert last['seconds'] > timing['seconds']
    # A second process goes on from step 8: what the first one did behind that is time lost, but time.
    progress = Progress(tmp_path, measures=TASK, total_steps=10, batch_size=8, start_step=8, timing=Timing(**timing))
    assert progress.timing.starts == 2
    assert progress.timing.seconds >= last['seconds']
    assert progress.timing.training_seconds == timing['training_seconds']
    with progress.measured('checkpoint'):
        time.sleep(0.05)
    assert progress.timing.checkpoint_seconds >= timing['checkpoint_seconds'] + 0.05
    assert progress.timing.percent('checkpoint') <= 100
