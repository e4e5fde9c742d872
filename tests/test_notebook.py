"""notebooks/quickstart.ipynb: what it shows was computed, and it runs from top to bottom without network or weights."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / 'notebooks' / 'quickstart.ipynb'


def printed(cells) -> list[str]:
    """What each cell of code prints."""
    outputs = ([output for output in cell['outputs'] if output.get('name') == 'stdout'] for cell in cells)
    return [''.join(''.join(output['text']) for output in of_cell) for of_cell in outputs]


def test_its_outputs_are_those_of_one_run_and_small():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())['cells'] if cell['cell_type'] == 'code']
    assert [cell['execution_count'] for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.get('output_type') == 'error' for cell in cells for output in cell['outputs'])
    pictures = [output for cell in cells for output in cell['outputs'] if 'image/png' in output.get('data', {})]
    assert len(pictures) == 2 and NOTEBOOK.stat().st_size < 200_000
    text = '\n'.join(printed(cells))
    assert not re.search(r'(?<![\w.])/(?:home|root|tmp|work|Users)/', text)
    assert '3,504,872' in text and 'palace' in text  # of MobileNetV2; of the photograph


@pytest.mark.slow
def test_it_runs_without_network_and_weights(tmp_path, monkeypatch):
    nbclient = pytest.importorskip('nbclient', reason='nbclient and ipykernel of requirements.txt run the notebook')
    nbformat = pytest.importorskip('nbformat')
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {'metadata': {'path': str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=1200, kernel_name='python3', resources=where).execute()
    *_, evaluated, classified = printed([cell for cell in notebook.cells if cell['cell_type'] == 'code'])
    result = json.loads(evaluated)
    assert result['count'] == 360 and result['top1'] > 50
    assert classified == f'{result["top1"] / 100:.1%} of 360\n'
    assert (tmp_path / 'runs' / 'quickstart' / 'curves.png').exists()
