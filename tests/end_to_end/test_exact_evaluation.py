"""Every example counts exactly once, whatever the size of the set and the number of devices."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from evaluation_sets import SIZES, make_dataset, make_examples, make_model, make_variables
from launching import coordinates

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


@pytest.mark.parametrize(('processes', 'devices'), [(1, 1), (1, 2), (1, 8), (2, 2)])
def test_every_example_counts_once_and_has_its_row_in_the_order_of_the_set(processes, devices, launcher, logits):
    flags = coordinates(processes) if processes > 1 else [[]]
    started = [launcher.start(WORKER, *own, devices=devices) for own in flags]
    ended = [process.end() for process in started]
    assert [process.status for process in ended] == [0] * processes, ended
    said = [json.loads(process.output[-1]) for process in ended]
    assert said == [said[0]] * processes and said[0]['devices'] == processes * devices
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
