"""NetAdapt from a trained digits network by its command: however it is stopped, it ends with the same table."""

import json
import signal

import pytest
from launching import coordinates, end_of, forked_results

from mobilenets_jax.models import get_spec
from mobilenets_jax.models.found import canonical

TABLE = {
    'name': 'tiny',
    'stem': {'channels': 8, 'kernel_size': 3, 'stride': 2, 'activation': 'hard_swish'},
    'blocks': [
        {
            'kernel_size': 3,
            'expanded': 24,
            'out_channels': 16,
            'activation': 'relu',
            'stride': 2,
            'squeeze_excite': {'reduction': 4},
        },
        {'kernel_size': 3, 'expanded': 48, 'out_channels': 16, 'activation': 'hard_swish', 'stride': 1},
    ],
    'dropout_rate': 0.0,
    'convention': {'bn_momentum': 0.9},
}
CONFIG = """
from configs.search import common

def get_config():
    config = common.get_config('netadapt')
    config.search.held_out_percent = 10.0
    config.search.saved_percent = 3.0
    config.batch_size = 32
    config.image_size = 32
    config.num_steps = 3
    config.optimizer.name = 'sgd'
    config.schedule.name = 'constant'
    config.schedule.learning_rate = 0.02
    config.ema.decay = 0.0
    return config
"""
NETWORK = '--config.model.num_removed_strides=1'
TRAIN = f'train.py --config=configs/digits.py --config.batch_size=32 --config.num_steps=30 {NETWORK}'
TRAIN += ' --config.model.output_stride=32 --config.ema.decay=0.0 --config.evaluation.every_steps=30'
SEARCH = 'mobilenets_jax/__main__.py search --config=FOLDER/config.py --config.init_from=FOLDER/run'


COMMANDS = {
    'train': f'{TRAIN} --workdir=FOLDER/run --config.model.spec_file=FOLDER/table.json',
    'too slow': f'{SEARCH} --workdir=FOLDER/other --target_ms=50',
    'too slow at 224': f'{SEARCH} --workdir=FOLDER/other --target_ms=50 --config.search.latency_image_size=224',
    'no size': f'{SEARCH} --workdir=FOLDER/other --target_ms=5 --config.search.latency_image_size=0',
    'no target': f'{SEARCH} --workdir=FOLDER/other',
    'no start': f'{SEARCH} --workdir=FOLDER/other --target_ms=0.1 --config.init_from=',
    'no training': f'{SEARCH} --workdir=FOLDER/other --target_ms=0.1 --config.evaluation.every_steps=5',
    'no trace': f'{SEARCH} --workdir=FOLDER/other --target_ms=0.1 --config.profile_steps=1:2',
    'in a run': f'{SEARCH} --workdir=FOLDER/run --target_ms=0.1',
    'search': f'{SEARCH} --workdir=FOLDER/search --target_ms=TARGET',
    'other config': f'{SEARCH} --workdir=FOLDER/search --target_ms=TARGET --config.num_steps=4',
    'again': f'{SEARCH} --workdir=FOLDER/search --target_ms=TARGET',
    'train found': f'{TRAIN} --workdir=FOLDER/found --config.model.spec_file=FOLDER/search/found.json',
}


@pytest.fixture
def searched(launcher, made_once):
    """A folder with a trained run, a search of it in `search`, and what became of some commands, by name."""

    def make(folder):
        (folder / 'table.json').write_text(json.dumps(TABLE))
        (folder / 'config.py').write_text(CONFIG)
        target = str(target_ms())
        launcher.run_forked([command.replace('TARGET', target) for command in COMMANDS.values()], folder)

    folder = made_once('netadapt', make)
    return folder, dict(zip(COMMANDS, forked_results(folder), strict=True))


def first_ms(num_removed_strides, image_size):
    """What the first network takes."""
    from mobilenets_jax.search.latency import latency_model

    name, text = canonical(json.dumps(TABLE), 'TABLE')
    spec = get_spec(name, table=text).remove_first_strides(num_removed_strides)
    return latency_model('papers_pixel1').milliseconds(spec, image_size)


def target_ms():
    """Nine tenths of what the first network takes, as it is trained."""
    return round(0.9 * first_ms(1, 32), 6)


def test_finds_a_network_that_is_fast_enough(searched):
    folder, results = searched
    assert results['search']['status'] == 0, results['search']
    report = json.loads((folder / 'search' / 'search.json').read_text())
    assert (folder / 'search' / 'search.png').read_bytes().startswith(b'\x89PNG')
    assert report['milliseconds'] <= target_ms() < report['start']['milliseconds']
    before = report['start']['milliseconds']
    for row in report['rounds']:
        assert before - row['milliseconds'] >= 0.03 * report['start']['milliseconds']
        assert all(one['accuracy'] is None or 0 <= one['accuracy'] <= 100 for one in row['tried'])
        before = row['milliseconds']
    name, text = canonical((folder / 'search' / 'found.json').read_text(), 'found.json')
    found = get_spec(name, table=text)
    assert [row.stride for row in found.blocks] == [2, 1] and found.stem.stride == 2  # dropped in training alone
    widths = {'block01.expanded': 24, 'block01.out_channels': 16, 'block02.expanded': 48}
    widths |= {row['group']: row['width'] for row in report['rounds']}
    assert {'block01.expanded': found.blocks[0].expanded, 'block02.expanded': found.blocks[1].expanded} == {
        group: width for group, width in widths.items() if group.endswith('expanded')
    }
    assert {row.out_channels for row in found.blocks} == {widths['block01.out_channels']}
    assert any(line.split()[:3] == ['2', 'inverted_residual', '3'] for line in results['search']['output'])


def test_found_network_is_trained_like_any_other(searched):
    _, results = searched
    trained = results['train found']
    assert trained['status'] == 0, trained
    assert trained['output'][0].startswith('tiny_')


def test_says_what_is_wrong_in_one_line(searched):
    _, results = searched
    wanted = {
        'too slow': f'error: search.target_ms=50.0 is not below the {first_ms(1, 32):.3f} ms',
        'too slow at 224': f'error: search.target_ms=50.0 is not below the {first_ms(0, 224):.3f} ms',
        'no size': 'error: search.latency_image_size=0 must be positive',
        'no target': 'error: search.target_ms=None must be set',
        'no start': "error: init_from='' must name the trained network",
        'no training': 'error: evaluation.every_steps=5 has no effect in a search',
        'no trace': "error: profile_steps='1:2' has no effect in NetAdapt",
        'in a run': 'error: checkpoint 30 is of another run: give the search a workdir of its own.',
        'other config': 'error: num_steps=4 instead of 3 in checkpoint ',
    }
    for name, message in wanted.items():
        assert results[name]['status'] == 2, results[name]
        assert results[name]['errors'][-1].startswith(message), results[name]['errors']


def test_finished_search_says_the_same_again(searched):
    _, results = searched
    assert results['again']['status'] == 0, results['again']
    assert results['again']['output'][-5:] == results['search']['output'][-5:]


def search_command(folder, workdir):
    search = SEARCH.replace('FOLDER', str(folder)).split()[1:]
    return ['-m', 'mobilenets_jax', *search, f'--workdir={workdir}', f'--target_ms={target_ms()}']


def assert_same_result(workdir, other):
    for name in ('found.json', 'search.json'):
        assert (workdir / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize(('signum', 'lines'), [(signal.SIGKILL, 2), (signal.SIGTERM, 1)])
def test_stopped_search_ends_with_the_same_table(searched, launcher, tmp_path, signum, lines):
    """Also on two devices, where two candidates are trained at a time."""
    folder, _ = searched
    command = search_command(folder, tmp_path / 'search')
    process = launcher.start(*command, devices=1)
    process.read('round', lines)
    process.send(signum)
    ended = process.end()
    assert ended.status == (-signal.SIGKILL if signum == signal.SIGKILL else 0), ended
    assert not any(line.startswith('table:') for line in ended.output)
    ended = launcher.run(*command, devices=2)
    assert ended.status == 0 and any(line.startswith('going on from round') for line in ended.output), ended
    assert_same_result(tmp_path / 'search', folder / 'search')


@pytest.mark.slow
def test_two_hosts_find_the_same_table(searched, launcher, tmp_path):
    """Each trains every second candidate, and both go on with the one that is taken."""
    folder, _ = searched
    command = search_command(folder, tmp_path / 'search')
    end_of([launcher.start(*command, *flags) for flags in coordinates()])
    assert_same_result(tmp_path / 'search', folder / 'search')
