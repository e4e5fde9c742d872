"""Networks trained one by one: what a search makes of their accuracies, and that each is trained as it would be."""

import dataclasses
import functools
import json

import jax
import numpy as np
import optax
import pytest
from etils import epath
from test_population import BATCH, EMA, SPEC, STEPS, batches, eval_batches, task_of
from tiny_space import tiny_space

from configs.search import mnasnet_cifar10, mnasnet_imagenet
from mobilenets_jax.config import ConfigView
from mobilenets_jax.errors import RunError, UserError
from mobilenets_jax.models import create_model
from mobilenets_jax.models.found import canonical
from mobilenets_jax.report.stand_alone import networks_figure, pareto
from mobilenets_jax.search import controllers, spaces
from mobilenets_jax.search.controllers import AgingEvolution, RandomInBand, Reinforce
from mobilenets_jax.search.reward import get_reward
from mobilenets_jax.search.stand_alone import Child, Children, SearchState, StandAlone, best_of, found_of
from mobilenets_jax.stand_alone_search import StandAloneSearch
from mobilenets_jax.training import parallel
from mobilenets_jax.training.optimizers import WeightDecayOptions
from mobilenets_jax.training.state import create_state, make_init, tree_sha256
from mobilenets_jax.training.step import make_train_step

SPACE, TARGET = tiny_space(), 6.0


def milliseconds(decisions):
    """Of one network's decisions, or of several."""
    return 0.25 * np.asarray(decisions).sum(axis=-1)


class Formula:
    """Accuracy in the place of training: it grows with every option but the kernels'."""

    def __init__(self, slots, stop_after=None, fails=()):
        self.slots, self.stop_after, self.fails, self.calls = slots, stop_after, fails, 0

    def train(self, chosen):
        assert 0 < len(chosen) <= self.slots
        self.calls += 1
        if self.stop_after is not None and self.calls > self.stop_after:
            return None
        weights = np.arange(len(SPACE.choices)) % 5
        accuracies = [float(20 + (weights * decisions).sum()) for decisions in chosen]
        return [None if accuracy in self.fails else accuracy for accuracy in accuracies]


CONTROLLERS = {
    'reinforce': Reinforce(SPACE),
    'evolution': AgingEvolution(SPACE, milliseconds, TARGET, band=0.5, population=8, tournament=4),
    'random': RandomInBand(SPACE, milliseconds, TARGET, band=0.5),
}


def search(controller, children, saved=None, said=None, **changes):
    return StandAlone(
        controller=CONTROLLERS[controller],
        seed=3,
        milliseconds=milliseconds,
        reward=get_reward('hard', TARGET),
        children=children,
        save=(saved if saved is not None else []).append,
        say=(said if said is not None else []).append,
        **{'num_networks': 30, 'networks_per_update': 4, **changes},
    )


@pytest.mark.parametrize('controller', CONTROLLERS)
def test_a_search_killed_at_any_moment_ends_the_same(controller):
    """From each state that was saved, on any number of devices: all networks, and the controller, by their hash."""
    saved = []
    straight = search(controller, Formula(slots=1), saved)
    last = straight.run(straight.first())
    assert [state.step for state in saved] == list(range(1, 31))
    assert len({tuple(row['decisions']) for row in last.rows}) > 15
    wanted = tree_sha256({'controller': last.controller})
    for slots, state in [*((1, state) for state in saved[::9]), *((3, state) for state in saved[::4]), (8, saved[1])]:
        rows = tuple(json.loads(json.dumps(state.rows)))
        ended = search(controller, Formula(slots)).run(SearchState(controller=state.controller, rows=rows))
        assert ended.rows == last.rows
        assert tree_sha256({'controller': ended.controller}) == wanted
    stopped = search(controller, Formula(slots=4, stop_after=2), saved := [])
    assert stopped.run(stopped.first()) is None and [state.step for state in saved] == [4, 8]


def test_rewards_are_of_accuracy_and_latency():
    """Above the target the hard reward falls as 1 / latency; the networks are those that the controller proposed."""
    running = search('reinforce', Formula(slots=8), num_networks=4)
    last = running.run(running.first())
    proposed = CONTROLLERS['reinforce'].propose(running.first().controller, np.random.default_rng((3, 0)), 4)
    assert [row['decisions'] for row in last.rows] == proposed.tolist()
    for row in last.rows:
        ms = 0.25 * sum(row['decisions'])
        assert row['milliseconds'] == ms
        assert row['reward'] == pytest.approx(row['accuracy'] / 100 * min(1, TARGET / ms))
    learnt = CONTROLLERS['reinforce'].observe(
        CONTROLLERS['reinforce'].init(), proposed, np.array([row['reward'] for row in last.rows])
    )
    np.testing.assert_array_equal(last.controller.logits, learnt.logits)


def test_a_network_that_is_not_finite_has_no_reward_and_is_never_found():
    first = search('reinforce', Formula(slots=8), num_networks=4)
    accuracies = [row['accuracy'] for row in first.run(first.first()).rows]
    said, best = [], max(accuracies)
    failing = search('reinforce', Formula(slots=8, fails={best}), said=said, num_networks=4)
    rows = failing.run(failing.first()).rows
    assert [row['reward'] for row in rows if row['accuracy'] is None] == [0.0] * accuracies.count(best)
    assert best_of(rows)['reward'] == max(row['reward'] for row in rows) > 0
    assert sum('not finite' in line for line in said) == accuracies.count(best) < 4
    with pytest.raises(RunError, match='^the loss of all 2 networks is not finite'):
        found_of([row for row in rows if row['accuracy'] is None])


def test_evolution_finds_better_networks_than_random_ones():
    """Of as many networks within the same latency; the best possible has 20 + all weights."""
    found = {}
    for controller in ('evolution', 'random'):
        running = search(controller, Formula(slots=8), num_networks=160)
        rows = running.run(running.first()).rows
        assert all(row['milliseconds'] <= TARGET for row in rows)
        found[controller] = found_of(rows)['accuracy']
    assert found['evolution'] > found['random'] + 3


OPTIMIZER, DECAY = optax.sgd(0.05, 0.9), WeightDecayOptions(rate=1e-2)
NARROW = dataclasses.replace(SPEC, blocks=SPEC.blocks[:1])


@functools.cache
def programs(spec):
    task = task_of(spec)
    step = make_train_step(task, OPTIMIZER, ema=EMA, weight_decay=DECAY, seed=0, over_devices=False)
    state = create_state(make_init(task.model, OPTIMIZER, image_size=8, ema=EMA), seed=0)
    evaluate = parallel.single_device_step(lambda *arguments: task.evaluate(*arguments)[0])
    return jax.device_get(state), parallel.single_device_step(step, donate=True), evaluate


def test_each_network_is_trained_as_it_would_be_alone():
    """Networks of two shapes on two devices, and one of them by hand on another: the same accuracy."""
    said, specs, seen = [], (NARROW, SPEC), []
    children = Children(
        create=lambda decisions: Child(*programs(specs[int(decisions[0])])),
        train_batches=lambda: batches(0),
        eval_batches=eval_batches,
        score=lambda sums: 100 * sums['top1'] / sums['count'] - 1e-3 * sums['loss'] / sums['count'],
        num_steps=STEPS,
        stop=lambda step: seen.append(step) or False,
        log_every=2,
        say=said.append,
    )
    scores = children.train([np.array([number]) for number in range(2)])
    assert seen == [1, 2, 3] and len(said) == 1 and said[0].startswith('step 2/3  loss ')
    assert scores[0] != scores[1]
    alone, total, stream = Child(*programs(SPEC)), {}, batches(0)
    state = alone.state
    for _ in range(STEPS):
        state, _ = alone.step(state, next(stream))
    for batch in eval_batches():
        for name, value in alone.evaluate(state.params, state.batch_stats, batch).items():
            total[name] = total.get(name, 0) + np.float64(value)
    assert total['count'] == BATCH + 3
    assert scores[1] == pytest.approx(children.score(total), rel=1e-6)
    assert children.slots == jax.device_count() == 8


ROWS = [
    {'milliseconds': 3.0, 'accuracy': 50.0, 'reward': 0.5},
    {'milliseconds': 2.0, 'accuracy': None, 'reward': 0.0},
    {'milliseconds': 1.0, 'accuracy': 40.0, 'reward': 0.4},
    {'milliseconds': 4.0, 'accuracy': 45.0, 'reward': 0.3},
    {'milliseconds': 3.0, 'accuracy': 55.0, 'reward': 0.6},
]


def test_the_picture_has_every_network_and_the_front():
    assert pareto([row for row in ROWS if row['accuracy'] is not None]) == [(1.0, 40.0), (3.0, 55.0)]
    plane, course, _ = networks_figure(ROWS, 2.5).axes
    dots = plane.collections[0]
    assert dots.get_offsets().tolist() == [[3.0, 50.0], [1.0, 40.0], [4.0, 45.0], [3.0, 55.0]]
    assert dots.get_array().tolist() == [1, 3, 4, 5]  # the second could not be trained
    front, target = plane.lines
    assert front.get_xydata().tolist() == [[1.0, 40.0], [3.0, 55.0]] and target.get_xdata()[0] == 2.5
    assert course.lines[1].get_ydata().tolist() == [0.5, 0.5, 0.5, 0.6]


def digits_search(folder, stop=lambda step: False, **changes):
    """The shipped search on the digits, over the tiny space."""
    config = mnasnet_cifar10.get_config()
    config.num_epochs = None
    fields = {
        'num_steps': 2,
        'batch_size': 32,
        'image_size': 16,
        'data.name': 'digits',
        'data.normalization': 'symmetric',
        'model.width_multiplier': 0.5,
        'model.num_removed_strides': 1,
        'search.space': 'tiny',
        'search.controller': 'reinforce',
        'search.num_networks': 3,
        'search.networks_per_update': 2,
        'search.target_ms': 2.0,
        **changes,
    }
    return StandAloneSearch(ConfigView(config.to_dict()).updated(fields), changes, epath.Path(folder), stop)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(spaces.SPACES, 'tiny', tiny_space)


def test_networks_have_the_latency_and_the_table_of_what_is_trained(tiny, tmp_path):
    """As the config's own network is built; at the size of the images without the dropped stride."""
    with_strides, as_trained = digits_search(tmp_path), digits_search(tmp_path, **{'search.latency_image_size': None})
    decisions = np.zeros(len(SPACE.choices), int)
    model = with_strides.experiment.model
    network = with_strides.network(decisions, 1)
    assert dataclasses.replace(network, convention=model.spec.convention) == model.spec
    latency = with_strides._latency
    assert as_trained._milliseconds(decisions) == latency.milliseconds(model.spec, 16)
    assert with_strides._milliseconds(decisions) == latency.milliseconds(with_strides.network(decisions, 0), 224)


@pytest.mark.parametrize(
    ('controller', 'changes'),
    [('reinforce', {}), ('random', {}), ('evolution', {'search.population': 4, 'search.tournament': 2})],
)
def test_a_search_goes_on_from_its_checkpoints(tiny, tmp_path, monkeypatch, controller, changes):
    """With a formula in the place of training, on one device and stopped on others: the same files."""
    monkeypatch.setattr(controllers, 'DRAWN', 64)  # networks at a time, each of which has its latency predicted
    changes = {'search.controller': controller, 'search.num_networks': 6, 'search.networks_per_update': 3, **changes}
    drawn = digits_search(tmp_path)._latencies(SPACE.sample(np.random.default_rng(0), 200))
    changes['search.target_ms'] = float(np.median(drawn))

    def run(folder, formula):
        built = digits_search(tmp_path / folder, **changes)
        built.search = dataclasses.replace(built.search, children=formula)
        return built.run()

    straight = run('straight', Formula(slots=2))
    for slots in (2, 8):  # after some of the networks of a round, and after all of them
        assert run('stopped', Formula(slots, stop_after=1)) is None
    assert run('stopped', Formula(slots=8)) == straight
    for name in ('found.json', 'search.json'):
        assert (tmp_path / 'stopped' / name).read_bytes() == (tmp_path / 'straight' / name).read_bytes()
    assert (tmp_path / 'stopped' / 'search.png').read_bytes().startswith(b'\x89PNG')
    rows = json.loads((tmp_path / 'straight' / 'search.json').read_text())['networks']
    assert len(rows) == 6 and straight.metrics['reward'] == max(row['reward'] for row in rows)
    if controller != 'reinforce':
        assert all(row['milliseconds'] <= changes['search.target_ms'] for row in rows)
    assert run('straight', None) == straight  # a search that is done says it again
    with pytest.raises(UserError, match='^search.num_networks=7 instead of 6 in checkpoint 6: a search goes on with'):
        digits_search(tmp_path / 'stopped', **{**changes, 'search.num_networks': 7})


@pytest.mark.slow
def test_a_stopped_search_ends_with_the_same_files(tiny, tmp_path):
    """Real networks of three shapes, trained on the digits, stopped while the last of them is trained."""
    found = digits_search(tmp_path / 'straight').run()
    stopping = {'stop': lambda step: step == 3}
    assert digits_search(tmp_path / 'stopped', **stopping).run() is None
    assert json.loads((tmp_path / 'stopped' / 'search.json').read_text())['networks']
    assert digits_search(tmp_path / 'stopped').run() == found
    for name in ('found.json', 'search.json'):
        assert (tmp_path / 'stopped' / name).read_bytes() == (tmp_path / 'straight' / name).read_bytes()
    assert (tmp_path / 'stopped' / 'search.png').read_bytes().startswith(b'\x89PNG')
    rows = json.loads((tmp_path / 'straight' / 'search.json').read_text())['networks']
    assert len(rows) == 3 and found.metrics['reward'] == max(row['reward'] for row in rows)
    name, text = canonical((tmp_path / 'straight' / 'found.json').read_text(), 'found.json')
    assert create_model(name, 10, table=text).spec == found.spec
    with pytest.raises(UserError, match='^search.target_ms=3.0 instead of 2.0 in checkpoint 3: a search goes on with'):
        digits_search(tmp_path / 'stopped', **{'search.target_ms': 3.0})


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'model.name': 'mobilenet_v2'}, "^model.name='mobilenet_v2' has no effect in a search: search.space says"),
        ({'model.sync_bn': True}, '^model.sync_bn=True cannot be in a search whose devices train networks alone'),
        ({'model.output_stride': 16}, '^model.output_stride=16 must be 32 in a search'),
        ({'distillation.teacher': 'runs/x'}, "^distillation.teacher='runs/x' cannot be in a search, whose"),
        ({'init_from': 'runs/x'}, "^init_from='runs/x' has no effect: these networks are trained from scratch"),
        ({'profile_steps': '1:2'}, '^profile_steps=.* has no effect in a search of networks that are trained one by'),
        ({'evaluation.every_steps': 5}, '^evaluation.every_steps=5 has no effect in a search'),
        ({'search.controller': 'ppo'}, "^search.controller='ppo' is unknown. Known: evolution, random, reinforce"),
        ({'search.tournament': 4}, "^search.tournament=4 has no effect with search.controller='reinforce', only with"),
        ({'search.num_networks': 0}, '^search.num_networks=0 must be positive'),
        ({'search.target_ms': -1.0}, '^search.target_ms=-1.0 must be positive'),
        ({'search.learning_rate': 0.0}, '^search.learning_rate=0.0 must be positive'),
        ({'search.held_out_percent': 100.0}, '^search.held_out_percent=100.0 are '),
    ],
)
def test_what_cannot_be_searched_is_refused(tiny, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        digits_search(tmp_path, **changes)


@pytest.mark.parametrize('config', [mnasnet_cifar10, mnasnet_imagenet], ids=['cifar10', 'imagenet'])
def test_shipped_searches_can_be_run(config, tmp_path, capsys):
    """On the digits, which are there: every field is read, over MnasNet's space."""
    fields = {'data.name': 'digits', 'data.train_split': '', 'data.eval_split': '', 'image_size': 32}
    fields |= {'model.dtype': 'float32', 'search.target_ms': 30.0}
    StandAloneSearch(
        ConfigView(config.get_config().to_dict()).updated(fields), {}, epath.Path(tmp_path), None
    )._describe()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith({mnasnet_cifar10: '100 of ', mnasnet_imagenet: '8000 of '}[config])
    assert ' networks of mnasnet, proposed by ' in lines[0]
