"""Golden counts: every row of `golden/counts.json` is what the built network has, to the last parameter.

The rows were computed from the papers' tables by hand-written arithmetic independent of this package, and checked
against torchvision's `num_params`, Keras's `count_params` and timm's published counts.
"""

import json

import pytest
from golden_values import COUNTS

from mobilenets_jax.models import list_models
from mobilenets_jax.report.counts import count_model

GOLDEN = json.loads(COUNTS.read_text())

PAPERS_WIDTHS = (0.75, 1.25, 1.4)  # at which conventions round differently


def _row_id(row: dict) -> str:
    parts = [row['name'], row['width'], row.get('convention', 'tf'), row.get('size', 224), row.get('num_classes', '')]
    return '-'.join(str(part) for part in [*parts, *row.get('fields', {}).values()] if part != '')


def _rows() -> list:
    """All rows; those that differ from one before in nothing but width and image size are for the long tests."""
    seen, rows = set(), []
    for row in GOLDEN:
        kind = row['name'], row.get('convention', 'tf'), str(row.get('fields')), row['width'] in PAPERS_WIDTHS
        rows.append(pytest.param(row, id=_row_id(row), marks=[pytest.mark.slow] if kind in seen else []))
        seen.add(kind)
    return rows


@pytest.mark.parametrize('row', _rows())
def test_counts_are_exact(row):
    counts = count_model(
        row['name'],
        width_multiplier=row['width'],
        convention=row.get('convention', 'tf'),
        image_size=row.get('size', 224),
        num_classes=row.get('num_classes', 1000),
        **row.get('fields', {}),
    )
    assert counts.params == row['params']
    if 'madds' in row:
        assert counts.madds == row['madds']
    if 'madds_millions' in row:
        assert round(counts.madds / 1e6, 2) == pytest.approx(row['madds_millions'], abs=0.0051)
    if 'no_bn' in row:
        assert counts.params - counts.norm_params == row['no_bn']
    if 'total' in row:
        assert counts.params + counts.batch_stats == row['total']


def test_every_network_has_a_golden_row():
    without = ' '.join(name for name in list_models() if name not in {row['name'] for row in GOLDEN})
    assert not without, f'`make golden NAMES="{without}"` writes rows, to be checked by their source'
    assert {row['name'] for row in GOLDEN} <= set(list_models())
