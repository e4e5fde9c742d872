"""How a metric is written and ranked."""

import math

import pytest

from mobilenets_jax.training.classification import ClassificationTask
from mobilenets_jax.training.task import Metric, headline_metric


@pytest.mark.parametrize(
    ('fields', 'value', 'text'),
    [
        ({'unit': '%'}, 80.277, '80.28 %'),
        ({'decimals': 4}, 1.02252, '1.0225'),
        ({'decimals': 0, 'unit': 'px'}, 12.6, '13 px'),
        ({}, None, '-'),
        ({'decimals': 4}, math.nan, 'nan'),
    ],
)
def test_value_is_written_with_its_unit_and_decimals(fields, value, text):
    assert Metric(name='x', label='x', **fields).written(value) == text


def test_the_higher_score_is_the_better_value():
    error = Metric(name='error', label='error', higher_is_better=False)
    assert max([3.0, 1.5, 2.0], key=error.score) == 1.5
    assert max([3.0, 1.5, 2.0], key=Metric(name='hits', label='hits').score) == 3.0


def test_headline_of_classification_is_top1_beside_the_accuracy_of_training():
    headline = headline_metric(ClassificationTask)
    assert (headline.name, headline.in_training, headline.higher_is_better) == ('top1', 'accuracy', True)
