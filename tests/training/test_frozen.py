"""Frozen modules: parameters and running statistics keep every bit, and inside it is evaluation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import get_config
from mobilenets_jax.config import ConfigView
from mobilenets_jax.errors import UserError
from mobilenets_jax.experiment import Experiment
from mobilenets_jax.models import create_model
from mobilenets_jax.training import parallel
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.ema import EmaOptions
from mobilenets_jax.training.frozen import Frozen
from mobilenets_jax.training.optimizers import WeightDecayOptions, create_optimizer
from mobilenets_jax.training.state import create_state, init_variables, make_init
from mobilenets_jax.training.step import make_train_step
from mobilenets_jax.trees import named_leaves

CLASSES, SIZE = 3, 32
SLOW = pytest.mark.slow
BACKBONE = (('^backbone/', 0.0),)
# One network for each kind of block.
NETWORKS = ('ghostnet', 'mnasnet_a1', 'mobilenet_edgetpu', 'mobilenet_v1', 'mobilenet_v2', 'mobilenet_v3_small',
            'mobilenext', 'resnet50', 'shufflenet_v1_g3', 'shufflenet_v2')  # fmt: skip


def network(name='mobilenet_v3_small', **fields):
    return create_model(name, CLASSES, **fields)


def short_network():
    """The first three blocks of a network, which take seconds to compile."""
    model = network('mobilenet_v2', width_multiplier=0.35)
    return model.clone(spec=dataclasses.replace(model.spec, blocks=model.spec.blocks[:3], head_conv=None))


def shapes(model):
    return jax.eval_shape(lambda key: init_variables(model, key, SIZE), jax.eval_shape(jax.random.key, 0))


def frozen_of(model, rate_factors):
    return Frozen.by_rate_factors(rate_factors, shapes(model)[0])


def batches(devices, count, per_device=2):
    rng = np.random.default_rng(1)
    for _ in range(count):
        images = rng.normal(size=(devices, per_device, SIZE, SIZE, 3)).astype(np.float32)
        yield {'image': images, 'label': rng.integers(0, CLASSES, (devices, per_device)).astype(np.int32)}


def train(model, rate_factors, devices, *, steps=3, decay=0.9, accumulation_steps=1):
    """The states before and after some steps on this number of devices."""
    frozen, ema = frozen_of(model, rate_factors), EmaOptions(decay=decay)
    weight_decay = WeightDecayOptions(rate=0.1, decoupled=True)
    optimizer = create_optimizer(
        'rmsprop', lambda step: 0.1, rate_factors=rate_factors, weight_decay=weight_decay, clip_norm=1.0
    )
    task = ClassificationTask(model=model, preprocess=lambda batch, train: batch['image'], frozen=frozen)
    step = make_train_step(
        task,
        optimizer,
        ema=ema,
        weight_decay=WeightDecayOptions(rate=0.1),
        seed=0,
        frozen=frozen,
        accumulation_steps=accumulation_steps,
    )
    state = before = create_state(make_init(model, optimizer, image_size=SIZE, ema=ema), seed=0)
    before = jax.device_get(before)
    mapped = parallel.parallel_train_step(step, jax.devices()[:devices])
    for batch in batches(devices, steps):
        state, _ = mapped(state, batch)
    return before, jax.device_get(state)


def changed(before, after):
    """The names of the leaves whose bits differ."""
    before, after = named_leaves(before), named_leaves(after)
    return {name for name in before if np.asarray(before[name]).tobytes() != np.asarray(after[name]).tobytes()}


@pytest.mark.parametrize(
    'devices', [pytest.param(1, marks=SLOW), 3, pytest.param(4, marks=SLOW)]
)  # the mean of three equal numbers is rounded
def test_a_frozen_backbone_keeps_every_bit_and_the_classifier_learns(devices):
    before, after = train(short_network(), BACKBONE, devices)
    assert changed(before.params, after.params) == changed(before.ema_params, after.ema_params)
    assert changed(before.params, after.params) >= {'logits/kernel', 'logits/bias'}
    assert not any(name.startswith('backbone/') for name in changed(before.params, after.params))
    assert not changed(before.batch_stats, after.batch_stats)
    assert not changed(before.ema_batch_stats, after.ema_batch_stats)


def test_the_same_in_parts_of_a_batch():
    before, after = train(short_network(), BACKBONE, 1, accumulation_steps=2)
    assert changed(before.params, after.params) == {'logits/kernel', 'logits/bias'}
    assert not changed(before.batch_stats, after.batch_stats)


def test_one_frozen_block_in_a_network_that_learns():
    before, after = train(short_network(), (('/block03/', 0.0),), 2)
    learnt, statistics = changed(before.params, after.params), changed(before.batch_stats, after.batch_stats)
    assert learnt == {name for name in named_leaves(before.params) if '/block03/' not in name}
    assert statistics == {name for name in named_leaves(before.batch_stats) if '/block03/' not in name}


def test_frozen_kernels_alone_leave_their_batch_norms_learning():
    before, after = train(short_network(), (('/kernel$', 0.0),), 1, steps=1)
    assert changed(before.params, after.params) == {
        name for name in named_leaves(before.params) if not name.endswith('/kernel')
    }
    assert changed(before.batch_stats, after.batch_stats) == set(named_leaves(before.batch_stats))


def features_in_training(model, rate_factors, variables, images):
    """The endpoints as a training step computes them."""
    frozen = frozen_of(model, rate_factors)
    with frozen.evaluation_inside():
        rngs = {'dropout': jax.random.key(0)}
        (_, endpoints), _ = model.apply(variables, images, train=True, mutable=['batch_stats'], rngs=rngs)
    return endpoints


@pytest.fixture(scope='module')
def small():
    """A network, its variables with statistics of no data set, and images."""
    model = short_network()
    params, batch_stats = init_variables(model, jax.random.key(0), SIZE)
    rng = np.random.default_rng(2)
    batch_stats = jax.tree.map(lambda leaf: rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32), batch_stats)
    return model, {'params': params, 'batch_stats': batch_stats}, rng.normal(size=(4, SIZE, SIZE, 3)).astype(np.float32)


def test_the_features_of_a_frozen_backbone_are_those_of_evaluation(small):
    model, variables, images = small
    expected = model.apply(variables, images, train=False)[1]
    frozen = features_in_training(model, BACKBONE, variables, images)
    assert len(expected) > 10
    for name, endpoint in expected.items():
        np.testing.assert_array_equal(frozen[name], endpoint, err_msg=name)
    learning = features_in_training(model, (('^logits/', 0.0),), variables, images)
    assert not np.allclose(learning['C5'], expected['C5'], atol=1e-3)


def test_batch_norms_alone_can_be_frozen(small):
    model, variables, images = small
    expected = model.apply(variables, images, train=False)[1]['C5']
    found = features_in_training(model, (('/bn/', 0.0),), variables, images)['C5']
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize('name', NETWORKS)
def test_no_network_touches_what_is_frozen(name, pattern=r'/(block02|block05/\w+)/'):
    """The compiled step hands the frozen statistics back as they came in; it computes the others."""
    model = network(name)
    params, batch_stats = shapes(model)
    frozen = Frozen.by_rate_factors(((pattern, 0.0),), params)
    task = ClassificationTask(model=model, preprocess=lambda batch, train: batch['image'], frozen=frozen)
    batch = {'image': jnp.zeros((2, SIZE, SIZE, 3)), 'label': jnp.zeros(2, jnp.int32)}

    def statistics(batch_stats, params):
        return task.loss(params, batch_stats, batch, jax.random.key(0))[1][0]

    program = jax.make_jaxpr(statistics)(batch_stats, params).jaxpr
    names = list(named_leaves(batch_stats))
    untouched = {name for name, into, out in zip(names, program.invars, program.outvars, strict=False) if into is out}
    assert untouched == {name for name in names if name.rpartition('/')[0] in frozen.modules}
    assert untouched


def test_an_experiment_trains_by_its_rate_factors():
    config = get_config()
    config.model.name, config.model.width_multiplier, config.num_steps = 'mobilenet_v1', 0.25, 1
    config.batch_size, config.image_size, config.optimizer.rate_factors = 8, SIZE, BACKBONE
    config.schedule.name = 'constant'
    experiment = Experiment(ConfigView(config.to_dict()))
    state = experiment.initial_state()
    before = jax.device_get(state)
    batch = next(experiment.dataset.train_batches(experiment.layout))
    after = jax.device_get(experiment.train_step()(state, batch)[0])
    assert 'logits/bias' in changed(before.params, after.params) <= {'logits/bias', 'logits/kernel'}
    assert not changed(before.batch_stats, after.batch_stats)


def test_patterns_that_freeze_everything_are_refused():
    with pytest.raises(UserError, match=r"^optimizer.rate_factors=\(\('', 0.0\),\) freezes all parameters.$"):
        frozen_of(network(), (('', 0.0),))


def test_what_is_frozen_is_said():
    model = network('mobilenet_v1')
    params, _ = shapes(model)
    frozen = Frozen.by_rate_factors((('/block01/', 0.0), ('/stem/.*kernel$', 0.0)), params)
    assert frozen.describe(params) == 'frozen: 7 of 83 arrays; all of backbone/block01, backbone/stem/conv'
    norms = Frozen.by_rate_factors((('/bn/', 0.0),), params)
    assert norms.describe(params).startswith('frozen: 54 of 83 arrays; all of backbone/block01/depthwise/bn, ')
    assert norms.describe(params).endswith(' and 24 more')
