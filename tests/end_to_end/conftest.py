"""Runs that several tests look at, made once for all of them, also where pytest runs in several workers."""

import fcntl
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from launching import PRECISE_RUN, SHORT_RUN, Launcher, coordinates, end_of, forked_results


@pytest.fixture(scope='session')
def shared_folder(tmp_path_factory) -> Path:
    """A folder of this session, the same in every worker."""
    folder = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        folder = folder.parent
    folder /= 'end_to_end'
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def launcher(shared_folder):
    """Starts commands; they share their compiled programs."""
    with Launcher(shared_folder) as launcher:
        yield launcher


@pytest.fixture
def made_once(shared_folder) -> Callable[[str, Callable[[Path], None]], Path]:
    """From a name and a function that fills a folder to that folder; other workers wait for it."""

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder = shared_folder / name
        with (shared_folder / f'{name}.lock').open('w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                unfinished = shared_folder / f'{name}.unfinished'
                unfinished.mkdir(exist_ok=True)
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return made


@pytest.fixture
def commands_on_run(made_once, launcher) -> Callable[[str, Path, Mapping[str, str]], tuple[Path, dict[str, dict]]]:
    """From a name, the folder of a checkpoint and commands by name to a folder and the result of each command.

    In `w` of the folder a run is resumed from the checkpoint. FOLDER in a command is the folder, and all must succeed.
    """

    def run(name: str, checkpoint: Path, commands: Mapping[str, str]) -> tuple[Path, dict[str, dict]]:
        def run_all(folder: Path) -> None:
            shutil.copytree(checkpoint, folder / 'w' / 'checkpoints' / checkpoint.name)
            launcher.run_forked(list(commands.values()), folder)

        folder = made_once(name, run_all)
        results = dict(zip(commands, forked_results(folder), strict=True))
        assert {result['status'] for result in results.values()} == {0}, results
        return folder, results

    return run


@pytest.fixture
def straight_run(made_once, launcher) -> Callable[..., Path]:
    """From a number of devices, and fields, to the workdir of a run that went through without a stop.

    It compiles what the other runs of its kind find in the cache, and leaves its log of that in `compile.log`.
    """

    def train(folder: Path, devices: int, fields: Mapping[str, object]) -> None:
        ended = launcher.train(folder, fields=fields, devices=devices, JAX_LOG_COMPILES='1').end()
        assert ended.status == 0, ended
        (folder / 'compile.log').write_text('\n'.join(ended.errors))

    return lambda devices=1, fields=SHORT_RUN: made_once(
        f'straight_{devices}', lambda folder: train(folder, devices, fields)
    )


@pytest.fixture
def train_pair(launcher):
    """Starts a pair of processes that train in one workdir."""
    return lambda workdir: [launcher.train(workdir, *flags, fields=PRECISE_RUN, devices=2) for flags in coordinates()]


@pytest.fixture
def straight_pair(made_once, train_pair):
    """The workdir of a pair that went through without a stop."""
    return made_once('straight_pair', lambda folder: end_of(train_pair(folder)))
