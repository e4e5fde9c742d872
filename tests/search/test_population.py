"""Candidates on eight devices: each is trained like its sliced network, whatever the other devices train."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from mobilenets_jax.models.layers import LayerSettings
from mobilenets_jax.models.network import ImageClassifier
from mobilenets_jax.models.scaling import ScalingConvention
from mobilenets_jax.models.specs import BlockSpec, ConvSpec, NetworkSpec, SqueezeExciteSpec
from mobilenets_jax.search.channels import Channels, count
from mobilenets_jax.search.population import Population, Variables
from mobilenets_jax.training import parallel
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.ema import EmaOptions
from mobilenets_jax.training.optimizers import WeightDecayOptions
from mobilenets_jax.training.state import create_state, first_state, make_init
from mobilenets_jax.training.step import make_train_step

CLASSES, STEPS, BATCH = 3, 3, 8
SAID = []
SPEC = NetworkSpec(
    stem=ConvSpec(channels=8, kernel_size=3, stride=2, activation='hard_swish'),
    blocks=(
        BlockSpec(kernel_size=3, expanded=24, out_channels=16, activation='relu', stride=1),
        BlockSpec(
            kernel_size=3,
            expanded=32,
            out_channels=16,
            activation='hard_swish',
            stride=1,
            squeeze_excite=SqueezeExciteSpec(reduction=2),
        ),
    ),
    head_conv=ConvSpec(channels=16, activation='hard_swish'),
    dropout_rate=0.0,
    convention=ScalingConvention(),
)
CHANNELS = Channels(SPEC)
EMA, DECAY = EmaOptions(decay=0.0), WeightDecayOptions(rate=1e-2)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.05, 0.9))


def task_of(spec):
    model = ImageClassifier(spec, LayerSettings(bn_momentum=0.9), CLASSES, dropout_rate=0.0)
    return ClassificationTask(model=model, preprocess=lambda batch, train: batch['image'])


def batches(position):
    """Of the training stream: each batch depends on where it stands."""
    while True:
        rng = np.random.default_rng(position)
        images = rng.normal(size=(1, BATCH, 8, 8, 3)).astype(np.float32)
        yield {'image': images, 'label': rng.integers(0, CLASSES, (1, BATCH)).astype(np.int32)}
        position += BATCH


def eval_batches():
    for batch, real in zip(batches(10_000), (BATCH, 3), strict=False):
        yield batch | {'mask': (np.arange(BATCH) < real).astype(np.float32)[None]}


def make_step(task, over_devices):
    return make_train_step(
        task, OPTIMIZER, ema=EMA, weight_decay=DECAY, seed=0, over_devices=over_devices, accumulation_steps=2
    )


@pytest.fixture(scope='module')
def population():
    task = task_of(SPEC)
    return Population(
        task=task,
        train_step=parallel.parallel_candidates(make_step(task, over_devices=False), donate=True),
        first_state=lambda params, batch_stats: first_state(params, batch_stats, OPTIMIZER, EMA),
        train_batches=batches,
        eval_batches=eval_batches,
        score=lambda sums: 100 * sums['top1'] / sums['count'] - 1e-3 * sums['loss'] / sums['count'],
        num_steps=STEPS,
        batch_size=BATCH,
        stop=lambda step: False,
        log_every=2,
        say=SAID.append,
    )


@pytest.fixture(scope='module')
def start():
    state = create_state(make_init(task_of(SPEC).model, OPTIMIZER, image_size=8, ema=EMA), seed=0)
    return Variables(*jax.device_get((state.params, state.batch_stats)))


@pytest.fixture(scope='module')
def kept(start):
    chosen = (('block02.expanded', 8), ('block01.out_channels', 8), ('block01.expanded', 16))
    return [CHANNELS.strongest(start.params, CHANNELS.all_kept, *one) for one in chosen]


@pytest.fixture(scope='module')
def candidates(start, kept):
    return [Variables(CHANNELS.masked(start.params, one), start.batch_stats) for one in kept]


@pytest.fixture(scope='module')
def trained(population, candidates):
    return population.train(candidates, position=64)


def test_results_depend_on_no_other_candidate(population, candidates, trained):
    """Bit for bit: alone on the first device, or as one of three on eight."""
    assert population.slots == 8 and len(trained.scores) == 3 and len(set(trained.scores)) == 3
    alone = population.train(candidates[1:2], position=64)
    assert alone.scores == trained.scores[1:2]
    jax.tree.map(np.testing.assert_array_equal, alone.variables(0), trained.variables(1))
    elsewhere = population.train(candidates[1:2], position=0)
    assert elsewhere.scores != alone.scores


def test_says_the_loss_of_each_candidate(population, candidates):
    SAID.clear()
    population.train(candidates[:2], position=64)
    (line,) = SAID  # after 2 of 3 steps
    start, *losses = line.split('loss')
    assert start == 'step 2/3  ' and all(0.5 < float(loss) < 5 for loss in losses[0].split())
    assert len(losses[0].split()) == 2


def test_what_is_dropped_stays_zero(kept, trained):
    for number, one in enumerate(kept):
        params = trained.variables(number).params
        jax.tree.map(np.testing.assert_array_equal, params, CHANNELS.masked(params, one))


def test_candidate_is_trained_as_its_sliced_network(population, candidates, kept, trained):
    """By the step of ordinary training, with the same batch on every device; clipped by one norm, decayed alike."""
    spec = CHANNELS.narrowed(count(kept[0]))
    assert spec.blocks[1].squeeze_excite.squeezed(16, spec.blocks[1].expanded) == 8  # of 16
    step = parallel.parallel_train_step(make_step(task_of(spec), over_devices=True))
    sliced = [CHANNELS.sliced(part, kept[0]) for part in candidates[0]]
    state = parallel.replicate(first_state(*sliced, OPTIMIZER, EMA))
    stream = batches(64)
    for _ in range(STEPS):
        batch = {name: np.repeat(leaf, 8, axis=0) for name, leaf in next(stream).items()}
        state, _ = step(state, batch)
    wanted = parallel.to_host((state.params, state.batch_stats))
    found = tuple(CHANNELS.sliced(part, kept[0]) for part in trained.variables(0))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-5), found, wanted)


def test_measures_all_real_examples(population, start):
    """By hand, one batch after the other, with the same network."""
    task, total = task_of(SPEC), {}
    for batch in eval_batches():
        sums, _ = jax.jit(task.evaluate)(*start, {name: leaf[0] for name, leaf in batch.items()})
        total = {name: total.get(name, 0) + np.float64(value) for name, value in sums.items()}
    assert total['count'] == BATCH + 3
    assert population.measure(start) == pytest.approx(population.score(total), rel=1e-5)


def test_training_that_diverges_has_no_score(population, candidates):
    broken = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), candidates[0])
    scores = population.train([broken, candidates[1]], position=64).scores
    assert scores[0] is None and scores[1] is not None


def test_stops_when_asked(population, candidates):
    seen = []
    stopping = dataclasses.replace(population, stop=lambda step: seen.append(step) or step == 2)
    assert stopping.train(candidates, position=0) is None
    assert seen == [1, 2]
