"""`latency`: what it says without LiteRT: the fit, which latencies are published, their order, and mistakes."""

import numpy as np
import pytest

from mobilenets_jax.__main__ import main
from mobilenets_jax.commands import latency as latency_command
from mobilenets_jax.commands.latency import Network, published_latency
from mobilenets_jax.models import get_spec


def test_the_fit_is_listed_with_its_errors(capsys):
    """The figures of tests/search/test_latency.py."""
    assert main(['latency', '--fit']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 25 + 4
    assert lines[2].split() == ['mobilenet_v3_large', '1', '224', '51.2', '51.4', '+0.3', '%', '51.4', '+0.4', '%']
    assert lines[-2].endswith(': dense_kxk 22.8, pointwise 141.6, depthwise 1172.9, fully_connected 733.3')
    errors = 'mean error 3.3 %, largest 9.3 %; of a network left out of the fit 4.0 %, largest 11.4 %'
    assert lines[-1] == errors


@pytest.mark.parametrize(
    ('network', 'image_size', 'milliseconds'),
    [
        (('mobilenet_v3_small', 0.75), 224, 12.8),  # Table 9
        (('mobilenet_v3_large', 1.0), 160, 27.8),
        (('mobilenet_v3_large', 1.25), 224, 77.0),
        (('mobilenet_v3_large', 1.25, 'model_garden'), 224, None),  # whose last layer is wider
        (('mobilenet_v2', 1.0, 'torchvision'), 224, 64.0),  # Table 3; it has the same layers
        (('mobilenet_v2', 0.5), 224, None),
        (('mobilenet_v2', 1.0), 192, None),
    ],
)
def test_which_latencies_are_published(network, image_size, milliseconds):
    assert published_latency(get_spec(*network), image_size) == milliseconds


def test_order_of_five_networks_or_more():
    """Spearman by hand: 1 - 6 * (1 + 1) / (5 * 24)."""
    networks = [Network(str(value), b'', None, value) for value in (10.0, 20.0, 30.0, 40.0, 50.0)]
    minima = np.array([1.0, 2.0, 4.0, 3.0, 5.0])
    line = latency_command._order([*networks, Network('unpublished', b'', None, None)], np.array([*minima, 0.1]))
    assert line == 'rank correlation (Spearman) of minimum and published: 0.900 of 5 networks'
    line = latency_command._order(networks[:4], minima[:4])
    assert line == 'rank correlation: of 5 networks that have a published latency or more; here are 4'


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        ([], 'latency needs networks: NAME, NAME:WIDTH or F.tflite, or --fit.'),
        (['mobilenet_v2', '--threads=0'], '--threads=0 must be positive.'),
        (['mobilenet_v2', '--runs=-1'], '--runs=-1 must be positive.'),
        (['mobilenet_v2', '--image_size=0'], '--image_size=0 must be positive.'),
        (['f.tflite', '--int8'], '--int8=True has no effect on files, which are measured as they are.'),
        (['f.tflite', '--image_size=96'], '--image_size=96 has no effect on files, which are measured as they are.'),
        (['mobilenet_v2', '--fit'], '--fit=True measures nothing, and takes neither networks nor their options.'),
        (['--int8', '--fit'], '--fit=True measures nothing, and takes neither networks nor their options.'),
    ],
)
def test_a_mistake_is_one_line_and_status_2(capsys, argv, message):
    assert main(['latency', *argv]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err) == ('', f'error: {message}\n')
