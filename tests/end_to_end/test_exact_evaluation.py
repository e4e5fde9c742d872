"""Every example counts exactly once, whatever the size of the set and the number of devices."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from evaluation_sets import SIZES, make_dataset, make_examples, make_model, make_variables
from launching import coordinates

from mobilenets_jax.evaluation.classification import RowEvaluator
from mobilenets_jax.training import parallel

WORKER = Path(__file__).with_name('evaluation_worker.py')


@pytest.fixture(scope='module')
def logits():
    """Of each example of the largest set, computed one by one, float64 [103, classes]."""
    model = make_model()
    variables = make_variables(model)
    dataset = make_dataset(max(SIZES))
    images, _ = make_examples()

    @jax.jit
    def logits_of(image):
        images = dataset.device_preprocess({'image': image[None]}, train=False)
        return model.apply(variables, images, train=False)[0][0]

    return np.stack([logits_of(image) for image in images]).astype(np.float64)


def check_metrics(said, logits):
    """Those of each set, against the logits."""
    _, labels = make_examples()
    own = logits[np.arange(len(labels)), labels]
    ranks, losses = (logits > own[:, None]).sum(axis=1), np.log(np.exp(logits).sum(axis=1)) - own
    assert 0 < (ranks < 1).sum() < (ranks < 5).sum() < len(ranks)
    for size in SIZES:
        result = said['results'][str(size)]
        assert result['count'] == size
        assert result['top1'] == pytest.approx(100 * np.mean(ranks[:size] < 1), abs=1e-9)
        assert result['top5'] == pytest.approx(100 * np.mean(ranks[:size] < 5), abs=1e-9)
        assert result['loss'] == pytest.approx(np.mean(losses[:size]), rel=1e-5)


@pytest.mark.parametrize('devices', [1, 2, 8])
def test_every_example_counts_once(devices, launcher, logits):
    ended = launcher.run(WORKER, devices=devices)
    assert ended.status == 0, ended
    said = json.loads(ended.output[-1])
    assert said['devices'] == devices
    check_metrics(said, logits)


@pytest.mark.parametrize(('processes', 'devices'), [pytest.param(1, 4, marks=pytest.mark.slow), (2, 2)])
def test_every_example_has_its_row_in_the_order_of_the_set(processes, devices, launcher, logits):
    flags = coordinates(processes) if processes > 1 else [[]]
    started = [launcher.start(WORKER, 'rows', *own, devices=devices) for own in flags]
    ended = [process.end() for process in started]
    assert [process.status for process in ended] == [0] * processes, ended
    said = [json.loads(process.output[-1]) for process in ended]
    assert said == [said[0]] * processes and said[0]['devices'] == 4
    check_metrics(said[0], logits)
    _, labels = make_examples()
    for size in SIZES:
        rows = said[0]['results'][str(size)]['rows']
        assert sorted(rows) == ['label', 'predicted', 'probability', 'top1', 'top5']
        assert rows['label'] == labels[:size].tolist()
        for index in range(size):  # one by one, as plainly as can be
            likeliest = sorted(range(len(logits[index])), key=lambda label, row=logits[index]: -row[label])
            assert rows['predicted'][index] == likeliest[0]
            assert rows['top1'][index] == (labels[index] == likeliest[0])
            assert rows['top5'][index] == (labels[index] in likeliest[:5])
            share = np.exp(logits[index] - logits[index].max())
            assert rows['probability'][index] == pytest.approx(share.max() / share.sum(), rel=1e-4)


def test_an_example_that_is_seen_twice_or_not_at_all_is_no_evaluation():
    def step(params, batch_stats, batch):
        count = {name: np.float32(2) for name in ('top1', 'top5', 'loss', 'count')}
        return parallel.replicate((count, batch))

    for index, fits in (([1, 0], True), ([0, 0], False), ([1, 2], False)):
        batch = {'index': np.array([index], np.int32), 'mask': np.ones((1, 2), np.float32)}
        batch = jax.tree.map(lambda leaf: np.repeat(leaf, jax.local_device_count(), 0), batch)
        batch['mask'][1:] = 0
        evaluator = RowEvaluator(step, lambda batch=batch: iter([batch]), 2)
        if fits:
            evaluator({}, {})
        else:
            with pytest.raises(RuntimeError, match='Not every example of a set of 2 was evaluated once'):
                evaluator({}, {})
