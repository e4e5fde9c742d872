"""The step on eight devices: sums, keys, statistics and accumulation, with a network small enough to reason about."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mobilenets_jax.training import parallel
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.ema import EmaOptions
from mobilenets_jax.training.optimizers import WeightDecayOptions
from mobilenets_jax.training.state import create_state, init_variables, make_init, tree_sha256
from mobilenets_jax.training.step import make_train_step

CLASSES = 3
NO_EMA, NO_DECAY = EmaOptions(decay=0.0), WeightDecayOptions(rate=0.0)


class TinyNet(nn.Module):
    """Pool, batch norm or none, dropout, dense."""

    dropout_rate: float = 0.0
    batch_norm: bool = False

    @nn.compact
    def __call__(self, images, *, train):
        x = images.mean(axis=1).reshape(images.shape[0], -1)
        if self.batch_norm:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.5, name='bn')(x)
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return nn.Dense(CLASSES, name='logits')(x), {}


def make(model, *, ema=NO_EMA, weight_decay=NO_DECAY, accumulation_steps=1, seed=0):
    optimizer = optax.sgd(0.1)
    task = ClassificationTask(model=model, preprocess=lambda batch, train: batch['image'])
    step = make_train_step(
        task, optimizer, ema=ema, weight_decay=weight_decay, seed=seed, accumulation_steps=accumulation_steps
    )
    state = create_state(make_init(model, optimizer, image_size=4, ema=ema), seed=0)
    return parallel.replicate(state), parallel.parallel_train_step(step)


def batches(count, per_device=4):
    rng = np.random.default_rng(1)
    return [
        {
            'image': rng.normal(size=(8, per_device, 4, 4, 3)).astype(np.float32),
            'label': rng.integers(0, CLASSES, (8, per_device)).astype(np.int32),
        }
        for _ in range(count)
    ]


def train(state, step, data):
    for batch in parallel.put_batches(data):
        state, metrics = step(state, batch)
    return parallel.to_host(state), parallel.to_host(metrics)


def test_images_need_not_be_square():
    params, _ = init_variables(TinyNet(), jax.random.key(0), (4, 6))
    assert params['logits']['kernel'].shape == (6 * 3, CLASSES)


def test_one_step_is_the_gradient_of_the_global_mean():
    model = TinyNet()
    (batch,) = batches(1)
    state, step = make(model)
    before = parallel.to_host(state.params)
    after, metrics = train(state, step, [batch])
    images, labels = batch['image'].reshape(-1, 4, 4, 3), batch['label'].reshape(-1)

    def loss(params):
        logits, _ = model.apply({'params': params}, images, train=False)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    expected = jax.tree.map(lambda p, g: p - 0.1 * g, before, jax.grad(loss)(before))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.params, expected)
    assert metrics['count'] == 32
    assert metrics['loss'] / 32 == pytest.approx(float(loss(before)), rel=1e-5)


def test_accumulation_changes_nothing_without_batch_statistics():
    data = batches(3)
    whole, _ = train(*make(TinyNet()), data)
    parts, metrics = train(*make(TinyNet(), accumulation_steps=4), data)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole.params, parts.params)
    assert metrics['count'] == 32


def test_dropout_differs_between_devices_and_steps_and_repeats_with_the_seed():
    class Probe(TinyNet):
        """Returns as logits which of its inputs dropout kept."""

        @nn.compact
        def __call__(self, images, *, train):
            kept = nn.Dropout(0.5, deterministic=not train)(jnp.ones((images.shape[0], 64)))
            return nn.Dense(CLASSES, name='logits')(images.mean(axis=(1, 2))) * 1.0, {'kept': kept}

    class ProbeTask(ClassificationTask):
        """Reports the masks of all devices as a metric."""

        def loss(self, params, batch_stats, batch, key):
            (logits, endpoints), _ = self.model.apply(
                {'params': params}, batch['image'], train=True, mutable=['batch_stats'], rngs={'dropout': key}
            )
            masks = jnp.zeros((8, *endpoints['kept'].shape))
            masks = masks.at[jax.lax.axis_index(parallel.AXIS_NAME)].set(endpoints['kept'])
            return logits.sum() * 0.0, (batch_stats, {'masks': masks})

    def masks(seed, steps):
        model, optimizer = Probe(), optax.sgd(0.1)
        task = ProbeTask(model=model, preprocess=None)
        step = parallel.parallel_train_step(
            make_train_step(task, optimizer, ema=NO_EMA, weight_decay=NO_DECAY, seed=seed)
        )
        state = parallel.replicate(create_state(make_init(model, optimizer, image_size=4, ema=NO_EMA), seed=0))
        seen = []
        for batch in parallel.put_batches(batches(steps)):
            state, metrics = step(state, batch)
            seen.append(parallel.to_host(metrics)['masks'])
        return np.concatenate([rows.reshape(8, -1) for rows in seen])  # one row a device and step

    first = masks(seed=0, steps=2)
    assert len({row.tobytes() for row in first}) == 16
    np.testing.assert_array_equal(first, masks(seed=0, steps=2))
    assert not np.array_equal(first, masks(seed=1, steps=2))


def test_all_devices_hold_one_state_though_each_normalises_by_its_own_batch():
    model = TinyNet(batch_norm=True, dropout_rate=0.3)
    state, step = make(model, ema=EmaOptions(decay=0.9))
    for batch in parallel.put_batches(batches(3)):
        state, _ = step(state, batch)
    for leaf in jax.tree.leaves(state):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert all(np.array_equal(copies[0], copy) for copy in copies[1:])


def test_averages_follow_the_parameters_and_statistics():
    model = TinyNet(batch_norm=True)
    ema = EmaOptions(decay=0.9)
    initial, step = make(model, ema=ema)
    start = parallel.to_host(initial)
    state, _ = train(initial, step, batches(1))
    # The first update's decay is (1 + 1) / (10 + 1).
    for average, old, new in [
        (state.ema_params['logits']['kernel'], start.params['logits']['kernel'], state.params['logits']['kernel']),
        (state.ema_batch_stats['bn']['mean'], start.batch_stats['bn']['mean'], state.batch_stats['bn']['mean']),
    ]:
        np.testing.assert_allclose(average, 2 / 11 * old + 9 / 11 * new, rtol=1e-5, atol=1e-7)


def test_statistics_are_averaged_only_where_asked():
    state, _ = make(TinyNet(batch_norm=True), ema=EmaOptions(decay=0.9, batch_stats=False))
    assert state.ema_batch_stats is None and state.ema_params is not None


def test_hash_depends_on_values_and_names_not_on_order():
    a, b = np.arange(3.0), np.ones((2, 2))
    assert tree_sha256({'a': a, 'b': b}) == tree_sha256({'b': b, 'a': a})
    assert len({tree_sha256(tree) for tree in ({'a': a}, {'b': a}, {'a': a + 1}, {'a': a.astype(np.float32)})}) == 4


def test_step_is_traced_once():
    traced = []

    def preprocess(batch, train):
        traced.append(train)
        return batch['image']

    optimizer, model = optax.sgd(0.1), TinyNet(batch_norm=True)
    task = ClassificationTask(model=model, preprocess=preprocess)
    step = make_train_step(task, optimizer, ema=NO_EMA, weight_decay=NO_DECAY, seed=0)
    state = parallel.replicate(create_state(make_init(model, optimizer, image_size=4, ema=NO_EMA), seed=0))
    train(state, parallel.parallel_train_step(step), batches(5))
    assert traced == [True]
