"""Evaluates a checkpoint: `python eval.py --workdir=W [--step=N|best] [--params=ema|raw] [--config.key=value ...]`.

Wiring only. `--config=FILE --checkpoint=DIR` evaluates a checkpoint with the data of another config.
`--weights=FILE_OR_CARD --config.data.name=image_folder --config.data.dir=DIR` evaluates published weights with their
own preprocessing. `--report=FOLDER` writes what the network makes of each image. The last line of standard output is
one JSON object.
"""

import json
import pathlib
import sys
from collections.abc import Mapping

import jax
from absl import flags
from etils import epath

from mobilenets_jax import cli, hosts
from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.config import ConfigView
from mobilenets_jax.config_use import check_used_in_evaluation
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.experiment import Experiment
from mobilenets_jax.identity import check_classes
from mobilenets_jax.report.predictions import measure, prepare_folder
from mobilenets_jax.training.state import evaluated_variables
from mobilenets_jax.weights import load_pretrained
from mobilenets_jax.weights.init_from import config_fields, fit
from mobilenets_jax.weights.trained import find_checkpoints, parse_step

IMAGES_PER_DEVICE = 64  # in a batch of published weights, unless the config says otherwise

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run; its own config is used.')
CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'Folder of checkpoints, or of one step, with --config.')
STEP = flags.DEFINE_string('step', None, "Step to evaluate, or 'best'; the newest intact one by default.")
WEIGHTS = flags.DEFINE_string('weights', None, 'Published weights: a file, or a name of `mobilenets_jax weights`.')
REPORT = flags.DEFINE_string('report', None, 'Folder for every prediction, the classes and a confusion matrix.')
PARAMS = flags.DEFINE_enum('params', 'ema', ['ema', 'raw'], 'Averaged parameters where there are any, or raw ones.')


def main() -> None:
    """Measures published weights or a checkpoint."""
    if [WEIGHTS.value, WORKDIR.value, CHECKPOINT.value].count(None) != 2:
        raise UserError('give one of --workdir, --weights, or --checkpoint with --config.')
    if REPORT.value is not None:
        hosts.decided_by_primary(lambda: prepare_folder(REPORT.value))
    metrics, facts = _evaluate_weights(WEIGHTS.value) if WEIGHTS.value is not None else _evaluate_checkpoint()
    if jax.process_index() == 0:
        facts |= {} if REPORT.value is None else {'report': REPORT.value}
        result = {'model': facts.pop('model'), **{name: metrics[name] for name in ('top1', 'top5', 'loss', 'count')}}
        print(json.dumps(result | facts), flush=True)


def _evaluate_weights(path_or_name: str) -> tuple[Mapping[str, float], dict]:
    """Metrics of published weights, and what was evaluated."""
    given = cli.overrides()
    network = {name: given.get(f'model.{name}') for name in ('num_classes', 'convention', 'width_multiplier')}
    network |= {'image_size': given.get('image_size'), 'value_range': given.get('data.normalization')}
    network |= {'step': parse_step(STEP.value), 'params': PARAMS.value if flags.FLAGS['params'].present else None}
    pretrained = load_pretrained(path_or_name, given.get('model.name'), **network)
    batch_size = IMAGES_PER_DEVICE * jax.device_count()
    config = cli.config_view({'batch_size': batch_size, **config_fields(pretrained)})
    experiment = _experiment(config)
    if pretrained.card.class_names:
        names, data = pretrained.card.class_names, experiment.dataset
        check_classes(f'weights={path_or_name!r}', names, data.class_names, data.name, exact=False)
    num_classes, data_classes = experiment.model.num_classes, experiment.dataset.num_classes
    check(num_classes == data_classes, 'data', data_classes, f'classes, where the weights know {num_classes}')
    target = experiment.abstract_variables()
    variables = fit(pretrained.variables, {name: target[name] for name in pretrained.variables}, path_or_name)
    metrics = measure(experiment, (variables['params'], variables['batch_stats']), REPORT.value)
    preprocessing = {
        name: config.data[name] for name in ('eval_crop', 'crop_fraction', 'interpolation', 'normalization')
    }
    facts = {'weights': path_or_name, 'image_size': config.image_size, **preprocessing}
    return metrics, {'model': experiment.identity.model, **facts}


def _evaluate_checkpoint() -> tuple[Mapping[str, float], dict]:
    """Metrics of a checkpoint of this project, and what was evaluated."""
    directory, step = _checkpoint()
    experiment = _experiment(cli.config_view())
    with CheckpointManager(directory, identity=experiment.identity, read_only=True) as checkpoints:
        restored = checkpoints.restore(experiment.abstract_variables(), step=step, partial=True)
    if restored is None:
        raise UserError(f'checkpoint={str(directory)!r} holds no checkpoint.')
    which = 'raw' if restored.state['ema_params'] is None else PARAMS.value
    metrics = measure(experiment, evaluated_variables(restored.state, which), REPORT.value)
    return metrics, {'model': experiment.identity.model, 'step': restored.step, 'params': which}


def _experiment(config: ConfigView) -> Experiment:
    """What is evaluated, on which data; the command line must set nothing that has no effect on it."""
    experiment = Experiment(config)
    check_used_in_evaluation(config, cli.overrides())
    return experiment


def _checkpoint() -> tuple[epath.Path, int | str | None]:
    """The folder of checkpoints and the step that the flags name."""
    source = CHECKPOINT.value if WORKDIR.value is None else WORKDIR.value
    directory, step = find_checkpoints(source) or (epath.Path(source), None)
    return directory, step if STEP.value is None else parse_step(STEP.value)


def _with_config(argv: list[str]) -> list[str]:
    """Adds a config to the flags where there is none: of `--workdir` the run's own, for `--weights` the base."""
    given = {}
    for argument, following in zip(argv, [*argv[1:], ''], strict=True):  # --name=value or --name value
        name, equals, value = argument.partition('=')
        given[name.lstrip('-')] = value if equals else following
    configs = pathlib.Path(__file__).parent / 'configs'
    if 'config' not in given and 'workdir' in given:
        return [argv[0], f'--config={configs / "saved.py"}:{given["workdir"]}/config.json', *argv[1:]]
    if 'config' not in given and 'weights' in given:
        return [argv[0], f'--config={configs / "base.py"}', *argv[1:]]
    return argv


if __name__ == '__main__':
    cli.run(main, _with_config(sys.argv))
