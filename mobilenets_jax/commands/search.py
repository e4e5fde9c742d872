"""`search`: finds a network that takes so many milliseconds, by the algorithm that the config names."""

import argparse
import functools
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from mobilenets_jax import netadapt_search, stand_alone_search, weight_sharing_search
from mobilenets_jax.config import ConfigView
from mobilenets_jax.errors import UserError, check, check_choice
from mobilenets_jax.search.found import Found, table_lines
from mobilenets_jax.search_workdir import say
from mobilenets_jax.stop_signals import StopSignals
from mobilenets_jax.workdir_lock import WorkdirLock

# From a config, what the command line sets of it by dotted path, a workdir, and whether to end after so many steps (as
# `stop_signals.StopSignals.reached`), to the network; None where it was stopped, saved.
Algorithm = Callable[[ConfigView, Mapping[str, Any], epath.Path, Callable[[int], bool]], Found | None]

# By `config.search.algorithm`.
ALGORITHMS: dict[str, Algorithm] = {
    algorithm.NAME: algorithm.search for algorithm in (netadapt_search, stand_alone_search, weight_sharing_search)
}


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser('search', help='find a network that a device runs in so many milliseconds')
    parser.add_argument('--workdir', required=True, help='folder of the search; local, or gs://')
    parser.add_argument('--target_ms', type=float, help="milliseconds of the network; by default the config's")
    parser.set_defaults(run=run, reads_config=True)


def run(arguments: argparse.Namespace) -> None:
    """Reads `--config` and its overrides as train.py does, and ends as it does."""
    from mobilenets_jax import cli  # defines the flags

    cli.run(functools.partial(_search, arguments), ['search', *arguments.config_flags], trains=True)


def _search(arguments: argparse.Namespace) -> None:
    """Searches in the workdir, alone."""
    from mobilenets_jax import cli

    config, overrides = cli.config_view(), cli.overrides()
    if 'search' not in config:
        raise UserError('--config has no section search; configs/search/ has files with one.')
    if arguments.target_ms is not None:
        overrides = {**overrides, 'search.target_ms': arguments.target_ms}
        config = config.updated({'search.target_ms': arguments.target_ms})
    target, algorithm = config.search.target_ms, config.search.algorithm
    check(target is not None, 'search.target_ms', target, 'must be set, e.g. by --target_ms=12.5')
    check_choice('search.algorithm', algorithm, ALGORITHMS)
    size = config.search.latency_image_size
    check(size is None or size > 0, 'search.latency_image_size', size, 'must be positive')
    workdir = epath.Path(arguments.workdir).expanduser()
    with WorkdirLock(workdir), StopSignals() as stop_signals:
        found = ALGORITHMS[algorithm](config, overrides, workdir, stop_signals.reached)
        if found is None:
            stopped_by = stop_signals.name()
            say(f'stopped by {stopped_by}; the same command goes on from what was saved')
        else:
            say(_text(found, workdir))


def _text(found: Found, workdir: epath.Path) -> str:
    metrics = ', '.join(f'{name} {value:g}' for name, value in found.metrics.items())
    return '\n'.join([*table_lines(found.spec), f'{found.name}: {metrics}', f'table: {workdir}/found.json'])
