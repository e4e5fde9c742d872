"""Evaluates a checkpoint: `python eval.py --workdir=W [--step=N|best] [--params=ema|raw] [--config.key=value ...]`.

Wiring only. `--checkpoint=DIR` takes a folder of checkpoints, or of one step. The config is the one that the checkpoint
was saved with; `--config=FILE` replaces it, e.g. for other data.
`--weights=FILE_OR_CARD --config.data.name=image_folder --config.data.dir=DIR` evaluates published weights with their
own preprocessing. `--report=FOLDER` writes the prediction for each image. The last line of standard output is
one JSON object.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence

import jax
from absl import flags
from etils import epath

from configs import base
from mobilenets_jax import cli, hosts
from mobilenets_jax.checkpoints import CheckpointManager, locate, stored_identity
from mobilenets_jax.config import ConfigView
from mobilenets_jax.config_use import check_used_in_evaluation
from mobilenets_jax.data import fingerprint
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.experiment import Experiment
from mobilenets_jax.identity import check_classes, task_of
from mobilenets_jax.report.evaluation import measure, prepare_folder
from mobilenets_jax.saved_config import config_of_checkpoint
from mobilenets_jax.tasks import get_task
from mobilenets_jax.training.progress import finite_or_none
from mobilenets_jax.training.state import evaluated_variables
from mobilenets_jax.weights import load_pretrained
from mobilenets_jax.weights.init_from import config_fields, fit
from mobilenets_jax.weights.pretrained import task_of_source
from mobilenets_jax.weights.trained import parse_step

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run.')
CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'Folder of checkpoints, or of one step.')
STEP = flags.DEFINE_string('step', None, "Step to evaluate, or 'best'; the newest intact one by default.")
WEIGHTS = flags.DEFINE_string('weights', None, 'Published weights: a file, or a name of `mobilenets_jax weights`.')
REPORT = flags.DEFINE_string('report', None, 'Folder for the predictions for each image and the results of each class.')
PARAMS = flags.DEFINE_enum('params', 'ema', ['ema', 'raw'], 'Averaged parameters where there are any, or raw ones.')


def main(*, own_config: bool) -> None:
    """Measures published weights, or a checkpoint with the config that it was saved with or that of `--config`."""
    if [WEIGHTS.value, WORKDIR.value, CHECKPOINT.value].count(None) != 2:
        raise UserError('give one of --workdir, --checkpoint or --weights.')
    if REPORT.value is not None:
        hosts.broadcast_from_primary(lambda: prepare_folder(REPORT.value))
    metrics, facts = _evaluate_weights(WEIGHTS.value) if WEIGHTS.value is not None else _evaluate_checkpoint(own_config)
    if jax.process_index() == 0:
        facts |= {} if REPORT.value is None else {'report': REPORT.value}
        print(json.dumps({'model': facts.pop('model'), **finite_or_none(metrics), **facts}), flush=True)


def _evaluate_weights(path_or_name: str) -> tuple[Mapping[str, float], dict]:
    """Metrics of published weights, and what was evaluated."""
    overrides = cli.overrides()
    network = {name: overrides.get(f'model.{name}') for name in ('num_classes', 'convention', 'width_multiplier')}
    network |= {'image_size': overrides.get('image_size'), 'normalization': overrides.get('data.normalization')}
    network |= {'step': parse_step(STEP.value), 'params': PARAMS.value if flags.FLAGS['params'].present else None}
    pretrained = load_pretrained(path_or_name, overrides.get('model.name'), **network, task=None)
    task, source = cli.config_view().task, f'weights={path_or_name!r}'
    check(task == pretrained.card.task, 'task', task, f'is not that of {source}, which is {pretrained.card.task!r}')
    batch_size = get_task(task).images_per_device * jax.device_count()
    fields = config_fields(pretrained)
    config = cli.config_view({'batch_size': batch_size, **fields})
    experiment = _experiment(config)
    check(experiment.quantized is None, 'quantization.enabled', True, 'needs ranges, which --workdir=RUN alone has')
    if pretrained.card.class_names and not experiment.dataset.numbered_classes:
        names, data = pretrained.card.class_names, experiment.dataset
        check_classes(source, names, data.class_names, data.name, exact=False)
    num_classes, data_classes = experiment.model.num_classes, experiment.dataset.num_classes
    check(num_classes == data_classes, 'data', data_classes, f'classes, where the weights know {num_classes}')
    target = experiment.abstract_variables()
    variables = fit(pretrained.variables, {name: target[name] for name in pretrained.variables}, source)
    metrics = measure(experiment, (variables['params'], variables['batch_stats']), REPORT.value)
    leaves = config.leaves()
    preprocessing = {path.removeprefix('data.'): leaves[f'config.{path}'] for path in fields if 'model.' not in path}
    facts = {'weights': path_or_name, **preprocessing}
    return metrics, {'model': experiment.identity.model, **facts}


def _evaluate_checkpoint(own_config: bool) -> tuple[Mapping[str, float], dict]:
    """Metrics of a checkpoint of this project, and what was evaluated."""
    directory, step = _checkpoint()
    fields = None
    if own_config:
        step, fields = config_of_checkpoint(directory, step, base.get_config(cli.config_view().task))
    experiment = _experiment(cli.config_view(fields))
    with CheckpointManager(directory, identity=experiment.identity, read_only=True) as checkpoints:
        restored = checkpoints.restore(experiment.abstract_variables(), step=step, partial=True)
    check(restored is not None, 'checkpoint', str(directory), 'holds no checkpoint')
    stored = restored.meta.get('fingerprints')
    fingerprint.warn_of_other_evaluation_data(f'step {restored.step}', stored, experiment.dataset.fingerprints)
    which = 'raw' if restored.state['ema_params'] is None else PARAMS.value
    metrics = measure(experiment, evaluated_variables(restored.state, which), REPORT.value)
    return metrics, {'model': experiment.identity.model, 'step': restored.step, 'params': which}


def _experiment(config: ConfigView) -> Experiment:
    """The network to evaluate, and its data; a field that the command line sets must have an effect on them."""
    experiment = Experiment(config)
    check_used_in_evaluation(config, cli.overrides())
    return experiment


def _checkpoint() -> tuple[epath.Path, int | str | None]:
    """The folder of checkpoints and the step that the flags name."""
    directory, step = locate(CHECKPOINT.value if WORKDIR.value is None else WORKDIR.value)
    return directory, step if STEP.value is None else parse_step(STEP.value)


def _base_config(argv: Sequence[str]) -> str:
    """The fields of the task of the checkpoint or the weights that the flags name."""
    source, weights = cli.value_of(argv, 'workdir') or cli.value_of(argv, 'checkpoint'), cli.value_of(argv, 'weights')
    identity = stored_identity(locate(source)[0]) if source else None
    task = task_of_source(weights) if weights else task_of(identity or {})
    return f'{pathlib.Path(base.__file__)}:{task}'


def run(argv: Sequence[str]) -> None:
    """Evaluates as the flags say; `argv` begins with the name of the program."""
    own_config = cli.value_of(argv, 'config') is None
    cli.run(lambda: main(own_config=own_config), argv, default_config=_base_config)
