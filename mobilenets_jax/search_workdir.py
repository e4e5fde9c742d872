"""The workdir of a search, whatever its algorithm: it goes on from a checkpoint of its own, with its own config."""

from collections.abc import Collection, Mapping
from typing import Any

import jax

from mobilenets_jax.checkpoints import Description
from mobilenets_jax.config import ConfigView, spellings
from mobilenets_jax.continuation import REPORTING, differences
from mobilenets_jax.data import Layout
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.hosts import warn

# Networks that have a device each get whole batches, on whatever device of whatever process they are.
WHOLE_BATCHES = Layout(process_index=0, process_count=1, local_device_count=1)
# They change nothing of what a search does next.
MAY_DIFFER = ('data.dir', 'data.num_threads')


def check_algorithm(found: Description, algorithm: str) -> None:
    """Raises `UserError` if a checkpoint is of another run than a search by this algorithm."""
    if found.meta.get('search', {}).get('algorithm') != algorithm:
        raise UserError(f'checkpoint {found.step} is of another run: give the search a workdir of its own.')


def check_config(config: ConfigView, found: Description, may_differ: Collection[str] = MAY_DIFFER) -> None:
    """Raises `UserError` if a search would go on from a checkpoint with another config.

    Args:
        config: of the search that goes on.
        found: the checkpoint.
        may_differ: fields that may, by dotted path, beside those that say how often it reports.
    """
    for field, now, before in sorted(differences(config.to_dict(), found.meta['config']), key=lambda one: one.path):
        if field not in may_differ and not field.startswith(REPORTING):
            raise UserError(
                f'{field}={now!r} instead of {before!r} in checkpoint {found.step}: a search goes on with its own '
                'config alone. Give it a workdir of its own.'
            )


def check_no_training_run(config: ConfigView, trains_alone: str) -> None:
    """Raises `UserError` if a config sets what has an effect in a training run alone.

    Args:
        config: of a search that trains many networks.
        trains_alone: which search it is, and why its steps are not those of a run.
    """
    check(not config.new_head, 'new_head', True, 'cannot be in a search, whose network must be trained')
    steps = config.profile_steps
    check(steps == '', 'profile_steps', steps, f'has no effect in {trains_alone}')
    for section in ('evaluation', 'checkpoint', 'replica_check'):
        for field in spellings('every'):
            value, requirement = config[section][field], 'has no effect in a search, which is saved with each candidate'
            check(value is None, f'{section}.{field}', value, requirement)


def check_trained_alone(sync_bn: bool, output_stride: int) -> None:
    """Raises `UserError` for a network that no search of networks on a device each can train and predict."""
    check(not sync_bn, 'model.sync_bn', sync_bn, 'cannot be in a search whose devices train networks alone')
    requirement = 'must be 32 in a search: no latency model knows dilation'
    check(output_stride == 32, 'model.output_stride', output_stride, requirement)


def check_no_teacher(teacher: str) -> None:
    """Raises `UserError` if the config has a teacher."""
    check(teacher == '', 'distillation.teacher', teacher, 'cannot be in a search, whose networks learn from labels')


def check_no_network(overrides: Mapping[str, Any]) -> None:
    """Raises `UserError` if the command line names a network in a search over a space."""
    for field in ('name', 'table', 'spec_file'):
        value = overrides.get(f'model.{field}', '')
        check(value == '', f'model.{field}', value, 'has no effect in a search: search.space says its networks')


def warn_without_held_out(percent: float) -> None:
    """Says that a search has no held-out images, if it has none."""
    if not percent:
        warn('search.held_out_percent=0: networks are chosen by the evaluation set, which is no test of them then')


def say(line: str) -> None:
    """Prints a line once for all hosts."""
    if jax.process_index() == 0:
        print(line, flush=True)
