"""The picture of a search with shared weights has the rows of its metrics, each in its panel."""

import math

import pytest

from mobilenets_jax.report.weight_sharing import draw_search, search_figure
from mobilenets_jax.search.weight_sharing import SharedWeightsTask

ROWS = [
    {'kind': 'train', 'step': 50, 'loss': 2.2, 'held_out': 11.0, 'milliseconds': 9.0, 'reward': 0.05},
    {'kind': 'train', 'step': 100, 'loss': 2.0, 'held_out': 14.0, 'milliseconds': None, 'reward': 0.08},
    {'kind': 'eval', 'step': 100, 'reward': 0.06, 'milliseconds': 6.5, 'certainty': 41.0},
]


def lines(axes):
    return {line.get_label(): list(map(list, zip(*line.get_xydata(), strict=True))) for line in axes.lines}


def test_every_number_is_drawn_in_its_panel():
    reward, held_out, latency, certainty = search_figure(ROWS, SharedWeightsTask, 5.0, 25).axes
    assert lines(reward)['the networks drawn'] == [[50, 100], [0.05, 0.08]]
    assert lines(reward)['moving average'] == [[100], [0.06]]
    assert lines(held_out)['the networks drawn'] == [[50, 100], [11.0, 14.0]]
    drawn = lines(latency)
    assert drawn['the likeliest network'] == [[100], [6.5]] and drawn['target'][1] == [5.0, 5.0]
    steps, milliseconds = drawn['the networks drawn']
    assert steps == [50, 100] and milliseconds[0] == 9.0 and math.isnan(milliseconds[1])
    assert [line.get_xydata().tolist()[0] for line in certainty.lines if line.get_marker() == 'o'] == [[100, 41.0]]
    labels = [axes.get_ylabel() for axes in (reward, held_out, latency, certainty)]
    assert labels == ['reward', 'held out, %', 'latency, ms', 'certainty, %']


@pytest.mark.parametrize('warmup_steps', [0, 25])
def test_where_the_controller_begins_is_marked(warmup_steps):
    for axes in search_figure(ROWS, SharedWeightsTask, 5.0, warmup_steps).axes:
        dotted = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ':']
        assert dotted == ([warmup_steps] if warmup_steps else [])


def test_a_search_without_a_row_has_a_picture():
    assert draw_search([], SharedWeightsTask, 5.0, 0).startswith(b'\x89PNG')
