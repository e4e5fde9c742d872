"""A run that is resumed from its checkpoint with another config: which changes are allowed, refused and reported.

The network, its input and its classes are compared by `mobilenets_jax.identity`.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from etils import epath
from ml_collections import ConfigDict

from mobilenets_jax.checkpoints import CheckpointManager, Description
from mobilenets_jax.checkpoints.arrays import describe
from mobilenets_jax.config import ConfigView
from mobilenets_jax.config_use import has_effect
from mobilenets_jax.errors import UserError
from mobilenets_jax.hosts import broadcast_from_primary
from mobilenets_jax.identity import NETWORK_FIELDS, check_task, task_of
from mobilenets_jax.saved_config import describe_unknown, with_saved

PyTree = Any

MAX_LISTED = 8  # changed fields that get a line each; the others share one
# Fields that say how often a run reports and saves. They do not change its result, and are listed last.
REPORTING = ('log.', 'evaluation.', 'checkpoint.', 'replica_check.', 'hang_timeout_seconds', 'profile_steps')

# Fields that say how a run may go on, not what it is. No line names them when they differ.
NOT_COMPARED = ('data.accept_changes', 'model.spec_file')

# Read when a run starts, and never again.
OF_THE_START = ('init_from', 'new_head')

# The fields that decide which arrays a state has, each with the part of its value that matters for that.
STATE_FIELDS: dict[str, Callable[[Any], Any]] = {
    'optimizer.name': str,
    'optimizer.clip_norm': lambda value: value is None,
    'weight_decay.rate': bool,
    'weight_decay.decoupled': bool,
    'ema.decay': bool,
    'ema.batch_stats': bool,
    'model.dtype': lambda value: value == 'float64',
    'quantization.enabled': bool,
}


class Change(NamedTuple):
    """A field with another value in the checkpoint.

    Attributes:
        path: dotted, e.g. 'model.name'.
        now: its value in the resumed run.
        before: its value in the checkpoint.
    """

    path: str
    now: Any
    before: Any

    def describe(self, step: int) -> str:
        """E.g. 'config.seed: 1 instead of 0 in checkpoint 40'."""
        return f'config.{self.path}: {_shown(self.now)} instead of {_shown(self.before)} in checkpoint {step}'


def differences(config: Mapping[str, Any], saved: Mapping[str, Any]) -> list[Change]:
    """The fields that differ between two nested configs, without `NOT_COMPARED`; a missing field has the value None."""
    # Tuples are lists in what was saved.
    now, before = (ConfigView(json.loads(json.dumps(fields))).leaves() for fields in (config, saved))
    paths = [path.removeprefix('config.') for path in {**now, **before} if now.get(path) != before.get(path)]
    return [
        Change(path, now.get(f'config.{path}'), before.get(f'config.{path}'))
        for path in paths
        if path not in NOT_COMPARED
    ]


def network_of_saved(saved: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The network fields of a saved nested config, by dotted path, without those that the command line sets."""
    leaves = ConfigView(saved).leaves()
    return {path: leaves[f'config.{path}'] for path in NETWORK_FIELDS if path not in overrides}


def newest_checkpoint(directory: epath.Path) -> Description | None:
    """The checkpoint from which a run with this folder of checkpoints is resumed; None: it starts from step 0."""
    if not broadcast_from_primary(directory.is_dir):
        return None
    with CheckpointManager(directory, identity=None, read_only=True) as checkpoints:
        return checkpoints.describe(warn=False)  # restoring it will


class Continuation:
    """A checkpoint, compared with the config of the run that is resumed from it.

    Args:
        found: the checkpoint.
        defaults: today's fields and their defaults, some of which an older config may not have; changed in place.

    Attributes:
        step: of the checkpoint.

    Raises:
        UserError: it was saved by a run of another task, or the config saved with it is not a config.
    """

    def __init__(self, found: Description, defaults: ConfigDict):
        self.step = found.step
        self._arrays = found.arrays
        self._source = f'checkpoint {found.step}'
        check_task(self._source, task_of(found.identity), defaults.task)
        for part, kind in (('position', int), ('timing', dict)):
            if not isinstance(found.meta.get(part), kind):
                raise UserError(f'{self._source} was saved without its {part!r}: no run can go on from it.')
        self._saved, self._unknown = None, []
        if 'config' in found.meta:
            saved, self._unknown = with_saved(defaults, found.meta['config'], self._source)
            self._saved = saved.to_dict()

    def network_of_start(self, config: ConfigView, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The network fields set by the weights that the run started from, by dotted path, without `overrides`.

        Args:
            config: of the resumed run.
            overrides: what the command line sets, by dotted path.

        Raises:
            UserError: init_from is set now, and the run did not start from weights.
        """
        if self._saved is None or not config.init_from:
            return {}
        if not self._saved['init_from']:
            raise UserError(
                f'init_from={config.init_from!r} has no effect on a run that goes on from {self._source}, which did '
                'not start from weights. Give the run a workdir of its own.'
            )
        return network_of_saved(self._saved, overrides)

    def check(self, config: ConfigView, target: PyTree, total_steps: int) -> None:
        """Raises `UserError` if the run cannot be resumed: its state has other arrays, or it has more steps already.

        Args:
            config: of the resumed run.
            target: its state, in shapes.
            total_steps: its length.
        """
        if describe(target) != self._arrays:
            changes = [
                change
                for change in self.changes(config)
                if change.path in STATE_FIELDS
                and STATE_FIELDS[change.path](change.now) != STATE_FIELDS[change.path](change.before)
            ]
            if changes:  # else restoring names the arrays
                listed = '; '.join(change.describe(self.step) for change in changes)
                raise UserError(
                    f'{listed}, whose state does not fit. Set it back, or give the run a workdir of its own, which '
                    'init_from starts from these weights.'
                )
        if self.step > total_steps:
            raise UserError(f'num_steps={total_steps} is behind the checkpoint, which has {self.step} steps.')

    def changes(self, config: ConfigView) -> list[Change]:
        """The fields that differ and have an effect in one of both runs, those of `REPORTING` last."""
        if self._saved is None:
            return []
        changes = sorted(
            differences(config.to_dict(), self._saved), key=lambda change: change.path.startswith(REPORTING)
        )
        now, before = config.leaves(), ConfigView(self._saved).leaves()
        return [change for change in changes if has_effect(now, change.path) or has_effect(before, change.path)]

    def describe_changes(self, config: ConfigView) -> list[str]:
        """A line for each of the first `MAX_LISTED` of the `changes`, and one with the names of the others."""
        changes = self.changes(config)
        lines = [
            change.describe(self.step)
            + ('; a run that goes on does not read it' if change.path in OF_THE_START else '')
            for change in changes[:MAX_LISTED]
        ]
        if len(changes) > MAX_LISTED:
            others = ', '.join(change.path for change in changes[MAX_LISTED:])
            lines.append(
                f'{len(changes) - MAX_LISTED} more field(s) of the config differ from {self._source}: {others}'
            )
        return [describe_unknown(self._unknown, self._source), *lines] if self._unknown else lines


def _shown(value: Any) -> str:
    """The value as text, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:77]}...'
