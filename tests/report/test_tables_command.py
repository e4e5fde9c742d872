"""`report tables`: docs/tables.md is what it prints; what the paper prints is near what is counted and predicted."""

import pathlib

import pytest
from PIL import Image

from mobilenets_jax.__main__ import main
from mobilenets_jax.report import published_figures
from mobilenets_jax.report.published_tables import FLOAT_ROWS, QUANTIZED_ROWS
from mobilenets_jax.search.published_latencies import ROWS

DOCS = pathlib.Path(__file__).parents[2] / 'docs'


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tables')
    assert main(['report', 'tables', f'--out={folder}']) == 0
    return folder


def test_the_page_in_docs_is_what_the_command_writes(written):
    assert (written / 'tables.md').read_text() == (DOCS / 'tables.md').read_text()


def test_the_pictures_have_a_colour_for_each_network(written):
    """The first six of matplotlib's colours, each in at least 100 pixels."""
    for number in (1, 2):
        pixels = Image.open(written / f'mobilenet_v3_figure{number}.png').convert('RGB')
        counts = {color: count for count, color in pixels.getcolors(maxcolors=1 << 20)}
        for color in ('1f77b4', 'ff7f0e', '2ca02c', 'd62728', '9467bd', '8c564b'):
            assert counts.get(tuple(bytes.fromhex(color)), 0) >= 100, (number, color)


def test_the_networks_are_those_that_the_tables_mean():
    """Multiply-adds within 5 %, parameters within 7 % (both are MnasNet-small's) of Table 3."""
    page = (DOCS / 'tables.md').read_text()
    for row in FLOAT_ROWS:
        (line,) = (line for line in page.splitlines() if line.startswith(f'| {row.label} |') and 'M |' in line)
        cells = [cell.strip().replace(',', '') for cell in line.split('|')]
        assert int(cells[5]) / 1e6 == pytest.approx(row.madds, rel=0.05), line
        assert int(cells[7]) / 1e6 == pytest.approx(row.params, rel=0.07), line
    labels = [row.label for row in FLOAT_ROWS]
    for row in QUANTIZED_ROWS:
        assert FLOAT_ROWS[labels.index(row.label)].model == row.model


def test_the_latencies_of_table_3_are_those_of_table_9_within_a_millisecond():
    """The paper prints both, Table 3 in whole milliseconds for the larger networks."""
    fitted = {(row.name, row.fields.get('width_multiplier', 1.0)): row for row in ROWS if row.image_size == 224}
    compared = 0
    for row in FLOAT_ROWS:
        other = fitted.get((row.model['name'], row.model.get('width_multiplier')))
        if other is not None:
            assert row.milliseconds[0] == pytest.approx(other.milliseconds, abs=0.85), row.label
            compared += 1
    assert compared == len(FLOAT_ROWS) - 1  # ProxylessNAS has no part in the fit


def test_points_of_the_figures():
    latencies, madds = published_figures.latencies(), published_figures.multiply_adds()
    assert (len(latencies.points), len(madds.points)) == (15, 23)
    (point,) = (point for point in latencies.points if point[:2] == ('mobilenet_v3_small', 0.75))
    assert point[2:4] == (65.4, 12.8) and point.ours == pytest.approx(13.08, abs=0.01)
    for point in madds.points:  # the farthest is V3-Small 0.35: 12M printed for 12.8M
        assert point.ours == pytest.approx(point.published, rel=0.07), point


def test_a_folder_that_is_not_there(capsys):
    assert main(['report', 'tables', '--out=no/folder']) == 2
    assert capsys.readouterr().err == "error: --out='no/folder' is no folder that exists.\n"
