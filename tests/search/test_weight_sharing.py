"""A step with shared weights is the mean of the steps of its networks; a search goes on as if it had not stopped."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath
from model_cases import random_variables
from tiny_space import tiny_space

from benchmarks.search_on_cifar10 import _shuffled, shared_accuracy, spearman
from configs.search import tunas_cifar10, tunas_imagenet
from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.config import ConfigView
from mobilenets_jax.errors import UserError
from mobilenets_jax.models import create_model
from mobilenets_jax.models.found import canonical
from mobilenets_jax.models.layers import LayerSettings
from mobilenets_jax.models.network import ImageClassifier
from mobilenets_jax.search import spaces
from mobilenets_jax.search.controllers import Reinforce
from mobilenets_jax.search.held_out import HeldOut
from mobilenets_jax.search.latency import latency_model
from mobilenets_jax.search.masks import sliced
from mobilenets_jax.search.reward import get_reward
from mobilenets_jax.search.super_network import SuperNetwork
from mobilenets_jax.search.weight_sharing import Networks, SearchState, SharedWeightsTask, make_search_step
from mobilenets_jax.training import parallel
from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.ema import EmaOptions
from mobilenets_jax.training.optimizers import WeightDecayOptions
from mobilenets_jax.training.progress import TIMING_METRICS
from mobilenets_jax.training.state import TrainState, tree_sha256
from mobilenets_jax.training.step import make_train_step
from mobilenets_jax.weight_sharing_search import WeightSharingSearch

DEVICES, PER_DEVICE, CLASSES, SIZE, RATE = 2, 24, 5, 16, 0.5


def milliseconds(spec):
    return 0.1 * len(spec.blocks) + spec.head_conv.channels / 100


def classifier(spec):
    return ImageClassifier(spec, LayerSettings(bn_momentum=0.9), CLASSES, 0.0)


def places(params):
    """For each entry its place in the row of all entries."""
    leaves, structure = jax.tree.flatten(params)
    starts = np.cumsum([0, *(leaf.size for leaf in leaves[:-1])])
    return jax.tree.unflatten(
        structure,
        [start + np.arange(leaf.size).reshape(leaf.shape) for start, leaf in zip(starts, leaves, strict=True)],
    )


@pytest.fixture
def networks():
    space = tiny_space()
    super_network = SuperNetwork(space)
    latency = lambda decisions: milliseconds(super_network.network(decisions))  # noqa: E731
    return Networks(super_network, Reinforce(space, learning_rate=0.1), latency, 4, seed=3)


def test_a_step_is_the_mean_of_the_steps_of_its_networks(networks):
    """Two devices, two networks, each by itself: weights, rewards and the controller's step."""
    rng, held_out = np.random.default_rng(0), HeldOut(40.0, seed=1)
    super_network, controller, reward = networks.super_network, networks.controller, get_reward('absolute', 1.0)
    model = classifier(super_network.spec)
    images = rng.normal(size=(DEVICES, PER_DEVICE, SIZE, SIZE, 3)).astype(np.float32)
    variables = random_variables(model, SIZE)
    batch = {'image': images, 'label': rng.integers(0, CLASSES, images.shape[:2])}
    batch['index'] = rng.permutation(1000)[: DEVICES * PER_DEVICE].reshape(DEVICES, PER_DEVICE)
    decisions = super_network.space.sample(rng, DEVICES).astype(np.int32)

    task = ClassificationTask(model=model, preprocess=lambda batch, train: batch['image'], label_smoothing=0.1)
    optimizer, none = optax.sgd(RATE), WeightDecayOptions(rate=0.0)
    shared = SharedWeightsTask(task=task, held_out=held_out)
    inner = make_train_step(shared, optimizer, ema=EmaOptions(decay=0.0), weight_decay=none, seed=0)
    step = parallel.parallel_train_step(make_search_step(inner, controller, reward, 0), jax.devices()[:DEVICES])
    params, batch_stats = variables['params'], variables['batch_stats']
    before = TrainState(jnp.int32(0), params, batch_stats, optimizer.init(params), None, None)
    state, metrics = step(SearchState(before, controller.init()), {**batch, **networks.fields(decisions)})
    state, metrics = jax.tree.map(np.array, (state, metrics))

    held = np.asarray(jax.vmap(held_out.rows)(batch['index']))
    mean_count = (~held).sum() / DEVICES
    accuracies, latencies = [], []
    wanted_move = np.zeros(sum(leaf.size for leaf in jax.tree.leaves(params)))
    for device, decided in enumerate(decisions):
        small, sizes = classifier(super_network.network(decided)), super_network.sizes(decided)
        labels = batch['label'][device]

        def loss(params, images, labels, held, small=small, sizes=sizes):
            stats = sliced({'batch_stats': variables['batch_stats']}, sizes)
            (logits, _), _ = small.apply({'params': params, **stats}, images, train=True, mutable=['batch_stats'])
            targets = optax.smooth_labels(jax.nn.one_hot(labels, CLASSES), 0.1)
            losses = optax.softmax_cross_entropy(logits, targets)
            return (losses * ~held).sum() / mean_count, logits

        arguments = sliced(params, sizes), images[device], labels, held[device]
        gradient, logits = jax.jit(jax.grad(loss, has_aux=True))(*arguments)
        for place, values in zip(*map(jax.tree.leaves, (sliced(places(params), sizes), gradient)), strict=True):
            wanted_move[place] += values / DEVICES
        accuracies.append((np.asarray(logits).argmax(axis=-1) == labels)[held[device]].mean())
        latencies.append(milliseconds(super_network.network(decided)))
    move = [(old - new) / RATE for new, old in zip(*map(jax.tree.leaves, (state.train.params, params)), strict=True)]
    move = np.concatenate([leaf.ravel() for leaf in move])
    np.testing.assert_allclose(move, wanted_move, atol=2e-4 * np.abs(wanted_move).max())
    assert np.abs(wanted_move).max() > 0.01 and (move[wanted_move == 0] == 0).all()
    rewards = np.array(accuracies) - 0.1 * np.abs(np.array(latencies) - 1.0)
    assert metrics['reward'] == pytest.approx(rewards.sum(), rel=1e-4)
    assert metrics['count'] == (~held).sum() and metrics['held_out_count'] == held.sum()
    wanted = controller.observe(controller.init(), decisions, rewards)
    # Without momentum Adam's first moment is the gradient; the step itself is its sign, also of what is rounded to 0.
    gradient, other = state.policy.optimizer[0].mu, np.asarray(wanted.optimizer[0].mu)
    np.testing.assert_allclose(gradient, other, atol=1e-6)
    clear = np.abs(other) > 1e-4
    assert clear.any()
    np.testing.assert_allclose(state.policy.logits[clear], np.asarray(wanted.logits)[clear], rtol=1e-3)
    assert state.policy.baseline == pytest.approx(float(wanted.baseline), abs=1e-6) and state.policy.steps == 1


def test_networks_of_a_step_depend_on_seed_and_step_alone(networks):
    """All options are the largest at first, half of the others in the middle of the warm-up, none behind it."""
    largest, controller = networks.super_network.largest, networks.controller
    policy = controller.init()
    assert (networks.decisions(policy, 0, 5) == largest).all()
    drawn = networks.decisions(policy, 2, 2000)
    count = networks.super_network.space.num_options
    np.testing.assert_allclose((drawn == largest).mean(axis=0), 0.5 + 0.5 / count, atol=0.05)
    behind = networks.decisions(policy, 4, 2000)
    np.testing.assert_allclose((behind == largest).mean(axis=0), 1 / count, atol=0.05)
    np.testing.assert_array_equal(networks.decisions(policy, 4, 2000), behind)
    assert (networks.decisions(policy, 5, 2000) != behind).any()
    # The likeliest network, and how sure the controller is of it.
    logits = jnp.where(jnp.arange(policy.logits.shape[1]) == 1, jnp.log(3.0), 0.0) + jnp.zeros_like(policy.logits)
    measured = networks.measured(policy._replace(logits=logits, baseline=jnp.float32(0.25)))
    best = networks.super_network.network(np.ones(len(count), int))
    assert measured['milliseconds'] == pytest.approx(milliseconds(best)) and measured['reward'] == 0.25
    assert measured['certainty'] == pytest.approx(100 * (3 / (count + 2)).mean(), rel=1e-5)


def test_images_held_out_are_the_same_ones_always():
    held_out = HeldOut(25.0, seed=4)
    rows = np.asarray(held_out.rows(jnp.arange(5000)))
    assert held_out.count(5000) == rows.sum() and abs(rows.mean() - 0.25) < 0.02
    np.testing.assert_array_equal(held_out.rows(jnp.array([19, 7, 7])), rows[[19, 7, 7]])
    assert (np.asarray(HeldOut(25.0, seed=5).rows(jnp.arange(5000))) != rows).any()
    with pytest.raises(UserError, match='^search.held_out_percent=100 must be above 0 and below 100'):
        HeldOut(100, seed=0)


def tiny_search(**changes):
    """The shipped search, on the digits and over the tiny space."""
    config = tunas_cifar10.get_config()
    config.num_epochs = None
    fields = {
        'num_steps': 6,
        'batch_size': 32 * jax.device_count(),
        'image_size': 16,
        'data.name': 'digits',
        'data.normalization': 'symmetric',
        'model.width_multiplier': 1.0,
        'model.num_removed_strides': 1,
        'search.space': 'tiny',
        'search.target_ms': 0.2,
        'search.warmup_percent': 34.0,
        'checkpoint.every_epochs': None,
        'checkpoint.every_steps': 3,
        'log.every_steps': 2,
        **changes,
    }
    return WeightSharingSearch(ConfigView(config.to_dict()).updated(fields), changes)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(spaces.SPACES, 'tiny', tiny_space)


def test_a_search_that_goes_on_finds_what_it_would_have_found(tiny, tmp_path):
    """Stopped behind the warm-up, and started again from its files: weights, controller, table and metrics."""
    states, step = {}, tiny_search().step()  # which compiles once: it has no memory

    def run(folder, stop=lambda step: False):
        search = tiny_search()

        def noted(state, batch):
            states[folder], metrics = step(state, batch)
            return states[folder], metrics

        search.step = lambda: noted
        return search.run(epath.Path(tmp_path / folder), stop)

    straight = run('straight')
    assert run('stopped', lambda step: step == 4) is None
    stopped = run('stopped')
    assert stopped == straight
    one, other = (tree_sha256(parallel.to_host(states[name])) for name in ('straight', 'stopped'))
    assert one == other
    texts = [(tmp_path / name / 'found.json').read_bytes() for name in ('straight', 'stopped')]
    assert texts[0] == texts[1]
    for name in ('straight', 'stopped'):
        assert (tmp_path / name / 'search.png').read_bytes().startswith(b'\x89PNG')
    rows = []
    for name in ('straight', 'stopped'):
        lines = map(json.loads, (tmp_path / name / 'metrics.jsonl').read_text().splitlines())
        rows.append([{key: value for key, value in row.items() if key not in TIMING_METRICS} for row in lines])
    assert rows[0] == rows[1] and [row['step'] for row in rows[0] if row['kind'] == 'train'] == [2, 3, 4, 5, 6]
    # The table is that of a network that can be trained by itself, with the strides that the search had dropped.
    spec = create_model('tiny_0.2ms', 10, table=canonical(texts[0].decode(), 'found')[1]).spec
    assert spec == straight.spec and (spec.stem.stride, spec.blocks[0].stride) == (2, 2)
    _check_shared_accuracy(tiny_search(), epath.Path(tmp_path / 'straight'))
    with pytest.raises(UserError, match='^search.target_ms=0.3 instead of 0.2 in checkpoint 6: a search goes on with'):
        tiny_search(**{'search.target_ms': 0.3}).run(epath.Path(tmp_path / 'stopped'), None)


def _check_shared_accuracy(search, workdir):
    """What the benchmark measures of a network with the shared weights is what its slice of them does."""
    accuracy, best = shared_accuracy(search, workdir)
    with CheckpointManager(workdir / 'checkpoints', identity=search.experiment.identity) as checkpoints:
        train = jax.device_get(checkpoints.restore(search.abstract_state()).state.train)
    super_network, task = search.networks.super_network, search.task.task
    sizes = super_network.sizes(best)
    model = dataclasses.replace(task.model, spec=super_network.network(best))
    variables = sliced({'params': train.params, 'batch_stats': train.batch_stats}, sizes)
    examples, size = _shuffled(search.experiment.dataset.eval_batches(search.experiment.layout)), 256
    assert (np.diff(examples['label'][:100]) != 0).any() and len(
        examples['label']
    ) == search.experiment.dataset.num_eval
    correct = []
    for first in range(0, len(examples['label']), size):
        batch = {name: rows[first : first + size] for name, rows in examples.items()}
        images = task.preprocess(batch, train=False)
        (logits, _), _ = model.apply(variables, images, train=True, mutable=['batch_stats'])
        correct.append(logits.argmax(-1) == batch['label'])
    assert accuracy(best) == pytest.approx(100 * np.concatenate(correct).mean())


def test_rank_correlation():
    assert spearman([1.0, 2.0, 3.0, 4.0], [10.0, 30.0, 20.0, 40.0]) == pytest.approx(0.8)
    assert spearman([1.0, 1.0, 2.0], [3.0, 3.0, 1.0]) == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'model.name': 'mobilenet_v2'}, "^model.name='mobilenet_v2' has no effect in a search: search.space says"),
        ({'model.dropout_rate': None}, '^model.dropout_rate=None must be 0 in a search'),
        ({'model.drop_path_rate': 0.1}, '^model.drop_path_rate=0.1 must be 0 in a search'),
        ({'distillation.teacher': 'x'}, "^distillation.teacher='x' cannot be in a search, whose networks learn"),
        ({'model.sync_bn': True}, '^model.sync_bn=True cannot be in a search, in which each device'),
        ({'optimizer.accumulation_steps': 2}, '^optimizer.accumulation_steps=2 must be 1 in a search'),
        ({'data.mixup_alpha': 0.2}, '^data.mixup_alpha=0.2 would mix images that are held out'),
        ({'search.held_out_percent': 5.0}, r"^search.held_out_percent=5.0 leaves 1.6 images of a device's batch"),
        ({'search.warmup_percent': 100.0}, '^search.warmup=6 steps leave none of the 6 to the controller'),
        ({'search.target_ms': 0.0}, '^search.target_ms=0.0 must be positive'),
        ({'search.target_ms': 1.0}, '^search.target_ms=1.0 is no latency of tiny, whose networks take 0.0429 to 0.846'),
        # Without two strides the first row has a residual in the largest network alone.
        ({'model.num_removed_strides': 2}, r'cannot share weights: with stem/channels=8 row 1 adds no residual\.'),
        ({'search.space': 'mnasnet'}, "^search.space='mnasnet' has networks that cannot share weights"),
        ({'search.options': (('/expand$', (2, 9)),)}, '^search.options: layer01/expand=9 is unknown. Known: 2, 3, 4'),
    ],
)
def test_what_cannot_be_searched_is_refused(changes, message, tiny):
    with pytest.raises(UserError, match=message):
        tiny_search(**changes)


def test_a_search_says_what_it_is_about_to_do(tiny):
    lines = tiny_search().describe().splitlines()
    assert lines[0].startswith('weight sharing over tiny: ')
    assert lines[0].endswith('networks of 0.0429 to 0.846 ms on Pixel 1, one big core, TensorFlow Lite float')
    assert lines[2] == '8 device(s), a network on each; 6 steps of batch 256; the controller learns from step 2 on'


@pytest.mark.parametrize(
    ('config', 'wanted'),
    [
        (
            tunas_cifar10,
            (
                'proxylessnas: 6.6e+17 networks of 1.95 to 24.8 ms',
                '28 steps of batch 1024; the controller learns from step 7 on',
            ),
        ),
        (
            tunas_imagenet,
            ('proxylessnas: 6.6e+17 networks of ', '31 steps of batch 4096; the controller learns from step 7 on'),
        ),
    ],
    ids=['cifar10', 'imagenet'],
)
def test_shipped_searches_can_be_run(config, wanted):
    """On the digits, which are there: every field is read, and every network of the space has a latency."""
    config = config.get_config().to_dict()
    fields = {'data.name': 'digits', 'image_size': 32, 'search.target_ms': 5.0, 'model.dtype': 'float32'}
    fields |= {'batch_size': max(1024, config['batch_size'])}
    described = WeightSharingSearch(ConfigView(config).updated(fields), {}).describe()
    for part in wanted:
        assert part in described


def test_latency_is_that_of_all_strides_at_a_size_of_its_own():
    """At 224 px the largest network is that of the space's table, whatever strides the training drops."""
    config = tunas_cifar10.get_config().to_dict()
    fields = {'data.name': 'digits', 'batch_size': 1024, 'search.target_ms': 30.0, 'model.width_multiplier': 1.0}
    search = WeightSharingSearch(ConfigView(config).updated({**fields, 'search.latency_image_size': 224}), {})
    space = spaces.get_space('proxylessnas')
    largest = space.spec(SuperNetwork(space).largest)
    latency = latency_model('papers_pixel1').milliseconds(largest, 224)
    assert search.networks.range[1] == pytest.approx(latency, rel=0.01)
