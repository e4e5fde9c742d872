"""Trains a network: `python train.py --config=configs/digits.py --workdir=W [--config.key=value ...]`.

Wiring only. A run that finds a checkpoint in its workdir resumes from there, exactly. On Ctrl-C, SIGTERM or SIGHUP it
saves and ends with status 0 (`--preempted_status`); started again, it resumes. A second Ctrl-C ends it at once.
"""

import functools
import sys
from collections.abc import Sequence

import jax
from absl import flags
from etils import epath

from configs import base
from mobilenets_jax import cli, hosts
from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.config import ConfigView, write_json
from mobilenets_jax.config_use import check_used
from mobilenets_jax.continuation import Continuation, newest_checkpoint
from mobilenets_jax.errors import UserError
from mobilenets_jax.experiment import Experiment
from mobilenets_jax.report.model_card import write_model_card
from mobilenets_jax.report.run import RunReport
from mobilenets_jax.stop_signals import StopSignals
from mobilenets_jax.tasks import get_task
from mobilenets_jax.training import loop
from mobilenets_jax.training.progress import Progress, Timing
from mobilenets_jax.training.state import evaluated_variables, num_params
from mobilenets_jax.weights.init_from import describe_replaced, starting_point
from mobilenets_jax.workdir_lock import WorkdirLock

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run: checkpoints, metrics, curves; local, or gs://.')
PREEMPTED_STATUS = flags.DEFINE_integer(
    'preempted_status', 0, 'Exit status after a signal; not 0 asks to be restarted.'
)


def main() -> None:
    """Trains in the workdir, alone."""
    if not WORKDIR.value:
        raise UserError('--workdir is missing, e.g. --workdir=runs/digits.')
    config, workdir = cli.config_view(), epath.Path(WORKDIR.value).expanduser()
    with WorkdirLock(workdir), StopSignals() as stop_signals:
        outcome = _train(config, workdir, stop_signals)
    if outcome.preempted:
        sys.exit(PREEMPTED_STATUS.value)


def _train(config: ConfigView, workdir: epath.Path, stop_signals: StopSignals) -> loop.Outcome:
    """Builds the parts of the run, checks all of them, then trains."""
    found, start = newest_checkpoint(workdir / 'checkpoints'), None
    defaults = functools.partial(base.get_config, config.task)
    going_on = found and Continuation(found, defaults())
    if going_on:
        config = config.updated(going_on.network_of_start(config, cli.overrides()))
    elif config.init_from:
        head = get_task(config.task).head
        start = starting_point(config.init_from, cli.overrides(), head=head, new_head=config.new_head)
        if replaced := describe_replaced(start, config, defaults()):
            hosts.warn(replaced)
        config = config.updated(start.fields)
    experiment = Experiment(config, start)
    target = experiment.abstract_state()
    train_step, evaluator = experiment.train_step(), experiment.evaluator()
    options = experiment.options
    checkpoint_options = {name: config.checkpoint[name] for name in ('keep_last', 'keep_best')}
    check_used(config, cli.overrides(), defaults().to_dict())
    if going_on:
        going_on.check(config, target, options.total_steps)

    with CheckpointManager(workdir / 'checkpoints', identity=experiment.identity, **checkpoint_options) as checkpoints:
        restored = checkpoints.restore(target)
        if restored:
            experiment.check_facts(f'step {restored.step}', restored.meta)
        state = restored.state if restored else experiment.initial_state()
        start_step = restored.step if restored else 0
        report = RunReport(workdir, experiment.identity.model, num_params(target.params), experiment.task)
        progress = Progress(
            workdir,
            measures=experiment.task,
            total_steps=options.total_steps,
            batch_size=options.batch_size,
            start_step=start_step,
            timing=Timing.saved(restored.meta['timing']) if restored else None,
            wandb_project=options.wandb_project,
            config=config.to_dict(),
            after_evaluation=report.update,
        )
        for line in going_on.describe_changes(config) if going_on else []:
            hosts.warn(line)
        if jax.process_index() == 0:  # now that nothing refuses the run
            write_json(workdir / 'config.json', config.to_dict())
            _announce(experiment, target, start_step)
        outcome = loop.train(
            state,
            train_step,
            experiment.task,
            batches=lambda position: experiment.dataset.train_batches(experiment.layout, start=position),
            evaluate=lambda state: evaluator(*evaluated_variables(vars(state), 'ema')).metrics,
            checkpoints=checkpoints,
            progress=progress,
            schedule=experiment.schedule,
            options=options,
            stop=stop_signals.reached,
            start_position=restored.meta['position'] if restored else 0,
            facts=experiment.facts,
            profile_folder=workdir / 'profile',
        )
        progress.close()
    stopped_by = stop_signals.name() if outcome.preempted else ''
    if jax.process_index() == 0:
        if outcome.preempted:
            step = int(outcome.state.step)
            print(f'stopped by {stopped_by} at step {step}, saved; the same command goes on', flush=True)
            report.stop(progress, step)
        else:
            summary = report.finish(progress, outcome)
            parts = {'model': experiment.model, 'dataset': experiment.dataset, 'measures': experiment.task}
            write_model_card(workdir, summary, config.to_dict(), defaults().to_dict(), **parts)
    return outcome


def _announce(experiment: Experiment, target, start_step: int) -> None:
    dataset, options = experiment.dataset, experiment.options
    print(
        f'{experiment.identity.model}: {num_params(target.params):,} parameters, {dataset.num_classes} classes\n'
        f'{dataset.name}: {dataset.num_train} training and {dataset.num_eval} evaluation images\n'
        f'{jax.device_count()} {jax.devices()[0].device_kind} device(s), {jax.process_count()} process(es), '
        f'batch {options.batch_size}, {options.total_steps} steps\n'
        f'{experiment.weight_decay.describe(target.params)}',
    )
    if experiment.quantized:
        print(experiment.quantized.describe(target.batch_stats))
    if experiment.teacher:
        print(f'teacher: {experiment.teacher.source}')
    if experiment.frozen.params:
        print(experiment.frozen.describe(target.params))
    print(f'going on from the checkpoint of step {start_step}' if start_step else 'starting from step 0', flush=True)


def run(argv: Sequence[str]) -> None:
    """Trains as the flags say; `argv` begins with the name of the program."""
    cli.run(main, argv, trains=True)
