"""docs/tpu.md and launch/ say of the recipes what follows from the compiler's stored reports."""

import json

import pytest

from benchmarks import tpu_recipes
from benchmarks.tpu_recipes import HOURS, LAUNCHED, PAGE, RECIPES, SLICES, needs, program_row, time_row

FIGURES = json.loads(tpu_recipes.FIGURES.read_text())
REPORT = {
    'fits': True,
    'batch_size': 4096,
    'per_device': 128,
    'argument_bytes': 2**29,
    'temporary_bytes': 2**31,
    'flops': 61.5e9,
    'bytes_accessed': 4.5e9,
    'collectives': {'all-reduce': 2},
    'collective_bytes': 3 * 2**20,
}


def test_page_and_launchers_are_what_the_command_writes():
    page = PAGE.read_text()
    assert tpu_recipes.with_tables(page, FIGURES) == page
    for path in LAUNCHED:
        text = path.read_text()
        assert HOURS.search(text) and tpu_recipes.with_hours(text, FIGURES) == text, path


def test_all_recipes_are_there_as_their_files_have_them():
    files = (tpu_recipes.ROOT / 'configs' / 'imagenet').glob('mobilenet*.py')
    assert sorted(path.stem for path in files) == sorted(RECIPES) == sorted(FIGURES)
    for recipe, get_config in RECIPES.items():
        config = get_config()
        for name, report in FIGURES[recipe].items():
            assert (report['model'], report['batch_size']) == (config.model.name, config.batch_size)
            assert report['topology'] == SLICES[name].topology


def test_a_device_is_a_core_of_v3_and_a_chip_of_the_others():
    devices = {name: {FIGURES[recipe][name]['devices'] for recipe in RECIPES} for name in SLICES}
    assert devices == {'v3-32': {32}, 'v4-32': {16}, 'v5e-16': {16}, 'v6e-8': {8}}


def test_a_memory_bound_step_whose_input_is_too_slow():
    """450 GB/s and 61.5 TFLOP/s a core: 10 and 1 ms, so 409,600 images/s, of which four hosts prepare 4 x 48 x 801."""
    found = needs(REPORT, SLICES['v3-32'], epochs=100)
    assert found[:4] == pytest.approx((0.01, 0.001, 409_600, 102_400))
    assert found.host_cores == 128
    assert found.device_hours == pytest.approx(100 * 1_281_167 / 409_600 / 3600)
    assert found.hours == pytest.approx(100 * 1_281_167 / 153_792 / 3600)


def test_a_step_bound_by_arithmetic():
    found = needs(REPORT | {'flops': 61.5e12}, SLICES['v3-32'], epochs=1)
    assert found.images_per_second == pytest.approx(4096)
    assert (found.host_cores, found.hours) == (2, found.device_hours)


def test_rows():
    assert program_row('r', 'v3-32', REPORT) == (
        '| r | v3-32 | 128 | 2.5, of 16.0 | 4,292 MiB | 62 G | 2 all-reduce: 3.0 MiB |'
    )
    assert time_row('r', 'v3-32', REPORT, 100) == (
        '| r | v3-32 | 10.0, 1.0 | 409,600 | 0.1 | 102,400 | 128, of 48 | 0.2 |'
    )
    too_large = {'fits': False, 'per_device': 512}
    assert 'does not fit' in program_row('r', 'v6e-8', too_large) and 'does not fit' in time_row(
        'r', 'v6e-8', too_large, 1
    )


def test_images_per_core_are_those_measured():
    results = (tpu_recipes.ROOT / 'benchmarks' / 'RESULTS.md').read_text()
    assert f'| ours, TFRecord | 1584 | {tpu_recipes.IMAGES_PER_CORE} |' in results


def test_a_page_without_its_comments_is_not_written():
    with pytest.raises(SystemExit, match='comments'):
        tpu_recipes.with_tables('# A page', FIGURES)
