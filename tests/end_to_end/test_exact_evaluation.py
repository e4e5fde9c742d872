"""Every example counts exactly once, whatever the size of the set and the number of devices."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from evaluation_sets import SIZES, make_dataset, make_examples, make_model, make_variables

WORKER = Path(__file__).with_name('evaluation_worker.py')


@pytest.fixture(scope='module')
def ranks_and_losses():
    """For each example of the largest set, from logits computed one by one: classes before the label, and its loss."""
    model = make_model()
    variables = make_variables(model)
    dataset = make_dataset(max(SIZES))
    images, labels = make_examples()

    @jax.jit
    def logits_of(image):
        images = dataset.device_preprocess({'image': image[None]}, train=False)
        return model.apply(variables, images, train=False)[0][0]

    logits = np.stack([logits_of(image) for image in images]).astype(np.float64)
    own = logits[np.arange(len(labels)), labels]
    return (logits > own[:, None]).sum(axis=1), np.log(np.exp(logits).sum(axis=1)) - own


@pytest.mark.parametrize('devices', [1, 2, 8])
def test_every_example_counts_once(devices, launcher, ranks_and_losses):
    ended = launcher.run(WORKER, devices=devices)
    assert ended.status == 0, ended
    said = json.loads(ended.output[-1])
    assert said['devices'] == devices
    ranks, losses = ranks_and_losses
    assert 0 < (ranks < 1).sum() < (ranks < 5).sum() < len(ranks)
    for size in SIZES:
        result = said['results'][str(size)]
        assert result['count'] == size
        assert result['top1'] == pytest.approx(100 * np.mean(ranks[:size] < 1), abs=1e-9)
        assert result['top5'] == pytest.approx(100 * np.mean(ranks[:size] < 5), abs=1e-9)
        assert result['loss'] == pytest.approx(np.mean(losses[:size]), rel=1e-5)
