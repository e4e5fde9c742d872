"""Evaluates a checkpoint: `python eval.py --workdir=W [--step=N] [--params=ema|raw] [--config.key=value ...]`.

Wiring only. `--config=FILE --checkpoint=DIR` evaluates a checkpoint with the data of another config. The last line of
standard output is one JSON object.
"""

import json
import pathlib
import sys

import jax
from absl import flags
from etils import epath

from mobilenets_jax import cli
from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.errors import UserError
from mobilenets_jax.experiment import Experiment
from mobilenets_jax.training import parallel
from mobilenets_jax.training.state import evaluated_variables

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run; its own config is used.')
CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'Folder of checkpoints, or of one step, with --config.')
STEP = flags.DEFINE_integer('step', None, 'Step to evaluate; the newest intact one by default.')
PARAMS = flags.DEFINE_enum('params', 'ema', ['ema', 'raw'], 'Averaged parameters where there are any, or raw ones.')


def main() -> None:
    """Restores a checkpoint and measures it."""
    directory, step = _checkpoint()
    experiment = Experiment(cli.config_view())
    evaluator = experiment.evaluator()
    with CheckpointManager(directory, identity=experiment.identity, read_only=True) as checkpoints:
        restored = checkpoints.restore(experiment.abstract_variables(), step=step, partial=True)
    if restored is None:
        raise UserError(f'checkpoint={str(directory)!r} holds no checkpoint.')
    variables = restored.state
    which = 'raw' if variables['ema_params'] is None else PARAMS.value
    metrics = evaluator(*parallel.replicate(evaluated_variables(variables, which)))
    if jax.process_index() == 0:
        names = ('top1', 'top5', 'loss', 'count')
        result = {'model': experiment.identity['model'], **{name: metrics[name] for name in names}}
        print(json.dumps(result | {'step': restored.step, 'params': which}), flush=True)


def _checkpoint() -> tuple[epath.Path, int | None]:
    """The folder of checkpoints and the step that the flags name."""
    if (WORKDIR.value is None) == (CHECKPOINT.value is None):
        raise UserError('give either --workdir, or --checkpoint with --config.')
    if WORKDIR.value is not None:
        return epath.Path(WORKDIR.value) / 'checkpoints', STEP.value
    path = epath.Path(CHECKPOINT.value)
    if path.name.isdecimal() and STEP.value is None:
        return path.parent, int(path.name)
    return (path / 'checkpoints' if (path / 'checkpoints').is_dir() else path), STEP.value


def _with_saved_config(argv: list[str]) -> list[str]:
    """Adds the run's own config to the flags where `--workdir` is given without `--config`."""
    given = {name.lstrip('-'): value for name, _, value in (argument.partition('=') for argument in argv)}
    if 'workdir' not in given or 'config' in given:
        return argv
    saved = pathlib.Path(__file__).parent / 'configs' / 'saved.py'
    return [argv[0], f'--config={saved}:{given["workdir"]}/config.json', *argv[1:]]


if __name__ == '__main__':
    cli.run(main, _with_saved_config(sys.argv))
