"""Saves and restores the training state with Orbax, so that every way a run can end leaves a checkpoint to go on from.

On disk: `directory/STEP/` holds `state/` (Orbax arrays), `meta/` (JSON) and `manifest.json` (a hash of every file).
Orbax writes into `STEP.unfinished`; the primary process hashes it, renames it to `STEP`, and only then deletes older
steps. So a directory named by a bare number is whole unless it was damaged afterwards, which its manifest tells.

A bucket renames nothing in one move. There Orbax writes into `STEP` itself, and the manifest, one object that is
written last and deleted first, marks the step as whole: without it there is no such step.

Differs: from `orbax.checkpoint.CheckpointManager`, which renames before a manifest could be written, deletes old steps
  before the new one is hashed, restores damaged arrays silently and casts them to the dtype of the target.
"""

import contextlib
import json
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import jax
import orbax.checkpoint as ocp
from etils import epath

from mobilenets_jax.buckets import is_bucket, list_names
from mobilenets_jax.checkpoints import arrays
from mobilenets_jax.checkpoints.document import Description, read_document
from mobilenets_jax.checkpoints.manifest import MANIFEST_NAME, verify_manifest, write_manifest
from mobilenets_jax.errors import RunError, UserError, check, free_space
from mobilenets_jax.hosts import barrier, broadcast_from_primary

PyTree = Any

_UNFINISHED = '.unfinished'
BEST = 'best'

_logger = logging.getLogger(__name__)


class CheckpointError(RunError):
    """A checkpoint could not be saved."""


class Identity(Protocol):
    """What a checkpoint must share with the run that reads it; see `mobilenets_jax.identity`."""

    def to_json(self) -> dict[str, Any]: ...  # noqa: D102
    def check(self, checkpoint: str, stored: Mapping, meta: Mapping, *, exact: bool) -> None: ...  # noqa: D102


class Restored(NamedTuple):
    """A restored checkpoint.

    Attributes:
      step: the step under which it was saved.
      state: host NumPy arrays in the structure of the target that was asked for.
      meta: what `save` was given as `meta`, as JSON reads it back (tuples are lists, keys are strings).
      identity: what the identity of the run that saved it gave as JSON.
    """

    step: int
    state: PyTree
    meta: dict[str, Any]
    identity: dict[str, Any]


class CheckpointManager:
    """Keeps the checkpoints of one run in one directory, shared by all processes of the run.

    Every process must construct it and call `save` and `restore` in the same order. Not thread safe. Use it as a
    context manager, or call `close`: the last save runs in the background until then.

    Args:
      directory: where the steps are kept; local or gs://; created unless `read_only`.
      identity: what a checkpoint must share with the run; one of another identity is refused by `restore`. None, with
        `read_only`, takes any: to start another run from it.
      keep_last: how many of the newest steps are kept; at least 1.
      keep_best: whether the step with the highest metric is kept as well.
      read_only: for evaluation: nothing is created, written or deleted.

    Raises:
      UserError: `keep_last` is not positive, the directory cannot be created, or is missing with `read_only`.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        *,
        identity: Identity | None,
        keep_last: int = 3,
        keep_best: bool = True,
        read_only: bool = False,
    ):
        check(keep_last >= 1, 'keep_last', keep_last, 'must be positive')
        self._directory = _absolute(directory)
        self._in_bucket = is_bucket(directory)
        self._identity = identity
        self._keep_last = keep_last
        self._keep_best = keep_best
        self._read_only = read_only
        self._damaged: set[int] = set()  # known to the primary process, which alone verifies and deletes
        self._prepare_directory()
        self._checkpointer = ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(state=ocp.StandardCheckpointHandler(), meta=ocp.JsonCheckpointHandler()),
            # Else a directory that cannot be made leaves threads behind that hold up the exit for five minutes.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
        )
        self._finisher = ThreadPoolExecutor(max_workers=1, thread_name_prefix='checkpoint')
        self._pending: Future | None = None

    def __enter__(self) -> 'CheckpointManager':
        return self

    def __exit__(self, *exc_info):
        self.close()

    def save(self, step: int, state: PyTree, *, meta: Mapping[str, Any], metric: float | None = None) -> None:
        """Starts saving `state` under `step` and returns as soon as it is copied to host memory.

        Waits for the previous save first. The caller may donate or overwrite `state` right after. A step that is
        already on disk and intact is left as it is; a damaged one is replaced.

        Args:
          step: the number of steps taken so far.
          state: pytree of NumPy arrays, or of jax.Arrays replicated over (at least) the local devices.
          meta: JSON-able facts about the run, such as the data position and the resolved config.
          metric: what `keep_best` goes by, higher is better; None or a non-finite value is never the best.

        Raises:
          CheckpointError: this save, or the previous one in the background, failed; names the path.
          TypeError: `meta` is not JSON-able.
        """
        identity = self._identity
        if self._read_only or identity is None:
            raise RuntimeError(f'{self._directory} was opened read_only; save() must not be called.')
        metric = float(metric) if metric is not None and math.isfinite(metric) else None
        facts = _as_json({'identity': identity.to_json(), 'metric': metric, 'meta': dict(meta)})
        self.wait()
        if broadcast_from_primary(lambda: self._is_intact(step)):
            return
        if self._in_bucket:  # where a damaged one is overwritten
            broadcast_from_primary(lambda: self._unmark(step))
        document = facts | {'arrays': arrays.describe(state)}
        with _naming_failures(self._step_dir(step)):
            self._checkpointer.save(
                self._unfinished_dir(step),
                args=ocp.args.Composite(state=arrays.to_save(state), meta=ocp.args.JsonSave(document)),
                force=True,  # replaces what an interrupted save of the same step left behind
            )
        self._pending = self._finisher.submit(self._finish, step)

    def restore(
        self, target: PyTree | None, *, step: int | str | None = None, partial: bool = False
    ) -> Restored | None:
        """Restores the newest intact checkpoint, or the one of `step`; all processes restore the same one.

        Args:
          target: pytree of arrays or jax.ShapeDtypeStructs in the structure that was saved; None takes whatever was
            saved, in nested dicts by the names of the leaves.
          step: the step to restore; 'best' takes the one with the highest metric; None takes the newest whose files are
            as they were written, and prints a warning on standard error for every newer one that is damaged.
          partial: whether `target` is a dict of some of the top-level fields that were saved; a field of which the
            checkpoint holds nothing comes back as None.

        Returns:
          The checkpoint, or None when the directory holds none at all.

        Raises:
          UserError: every checkpoint is damaged; `step` is missing or damaged, or 'best' and none has a metric; or the
            checkpoint differs from the run in its identity, or from `target` in its tree, a shape or a dtype.
        """
        self.wait()
        chosen = self.describe(step)
        if chosen is None:
            return None
        step, stored = chosen.step, chosen.arrays
        arrays.check_size(f'checkpoint {self._step_dir(step)}', stored)
        if target is None:
            target = arrays.nested_placeholders(stored)
        missing = {}
        if partial:
            missing = {field: None for field in target if not any(name.startswith(f'{field}/') for name in stored)}
            target = {field: tree for field, tree in target.items() if field not in missing}
        arrays.check_fit(f'checkpoint {self._step_dir(step)}', stored, target, partial)
        restored = self._checkpointer.restore(
            self._step_dir(step), args=ocp.args.Composite(state=arrays.to_restore(stored))
        )
        state = arrays.pick(restored.state, target)
        return Restored(
            step=step,
            state=state | missing if partial else state,
            meta=chosen.meta,
            identity=chosen.identity,
        )

    def describe(self, step: int | str | None = None, *, warn: bool = True) -> Description | None:
        """What `restore` would restore, without its arrays; None when the directory holds no checkpoint.

        Args:
          step: as in `restore`, whose errors it raises, except those about the target.
          warn: whether newer checkpoints that are damaged are named; `restore` will do it again.
        """
        chosen = broadcast_from_primary(lambda: self._choose(step, warn))
        return Description(**chosen) if chosen else None

    def steps(self) -> list[int]:
        """Returns the steps on disk in increasing order, damaged ones included; a save still running is not."""
        names = [name for name in list_names(self._directory) if name.isdecimal()]
        if self._in_bucket:
            names = [name for name in names if (self._directory / name / MANIFEST_NAME).exists()]
        return sorted(map(int, names))

    def best_step(self) -> int | None:
        """Returns the step with the highest metric, the newest of equals; None when no step has a metric."""
        return next(iter(self.best_steps()), None)

    def best_steps(self) -> list[int]:
        """Returns the steps that have a metric, the highest first, of equals the newest."""
        metrics = {step: self._metric(step) for step in self.steps() if step not in self._damaged}
        ranked = [(metric, step) for step, metric in metrics.items() if metric is not None]
        return [step for _, step in sorted(ranked, reverse=True)]

    def wait(self) -> None:
        """Blocks until the save in the background has finished on all processes.

        Raises:
          CheckpointError: it failed; names the path. Raised once.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Waits for the save in the background and frees the threads. Raises as `wait` does."""
        try:
            self.wait()
        finally:
            self._finisher.shutdown()
            self._checkpointer.close()

    def _step_dir(self, step: int) -> epath.Path:
        return self._directory / str(step)

    def _unfinished_dir(self, step: int) -> epath.Path:
        return self._step_dir(step) if self._in_bucket else self._directory / f'{step}{_UNFINISHED}'

    def _prepare_directory(self) -> None:
        if self._read_only:
            check(self._directory.is_dir(), 'checkpoint directory', str(self._directory), 'does not exist')
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f'checkpoint directory {self._directory} cannot be created: {error}.') from error

    def _finish(self, step: int) -> None:
        """Runs in the background on every process: waits for the arrays, hashes them, commits, deletes old steps."""
        unfinished, final = self._unfinished_dir(step), self._step_dir(step)
        with _naming_failures(final):
            self._checkpointer.wait_until_finished()
            if jax.process_index() == 0:
                write_manifest(unfinished)
                if unfinished != final:
                    if final.exists():  # save() found it damaged
                        final.rmtree()
                    unfinished.rename(final)
                self._damaged.discard(step)
                self._delete_old(step)
            barrier('checkpoint_committed')  # so that wait() means the same on every process

    def _delete_old(self, saved: int) -> None:
        """Deletes all steps but the one just saved, the last `keep_last` and the best, and what interrupted saves left.

        Damaged steps do not count as kept, and go.
        """
        steps = self.steps()
        for name in list_names(self._directory):
            number, suffix, _ = name.partition(_UNFINISHED)
            if number.isdecimal() and (suffix or int(number) not in steps):
                (self._directory / name).rmtree()
        intact = [step for step in steps if step not in self._damaged]
        keep = {saved, *intact[-self._keep_last :]}
        best = self.best_step() if self._keep_best else None
        if best is not None:
            keep.add(best)
        for step in set(steps) - keep:
            self._unmark(step)  # first, so that a kill leaves no half-deleted step
            self._unfinished_dir(step).rmtree()
            self._damaged.discard(step)

    def _is_intact(self, step: int) -> bool:
        return self._step_dir(step).exists() and not verify_manifest(self._step_dir(step))

    def _unmark(self, step: int) -> None:
        """Makes a step an unfinished one, in one move."""
        if self._in_bucket:
            (self._step_dir(step) / MANIFEST_NAME).unlink(missing_ok=True)
        else:
            self._step_dir(step).rename(self._unfinished_dir(step))

    def _choose(self, step: int | str | None, warn: bool) -> dict[str, Any] | None:
        """Picks the checkpoint to restore: the fields of its `Description`; None when there is none."""
        steps = self.steps()
        if step == BEST:
            step = self.best_step()
            if step is None and steps:
                known = ', '.join(map(str, steps))
                raise UserError(f'step={BEST!r}: no checkpoint in {self._directory} has a metric. Known: {known}.')
        if step is not None:
            chosen = self._requested(step, steps)
        elif steps:
            chosen = self._newest_intact(steps, warn)
        else:
            return None
        document = self._document(chosen)
        if self._identity is not None:
            checkpoint = f'checkpoint {self._step_dir(chosen)}'
            self._identity.check(checkpoint, document['identity'], document['meta'], exact=not self._read_only)
        return {'step': chosen} | {name: document[name] for name in ('meta', 'arrays', 'identity')}

    def _requested(self, step: int | str, steps: list[int]) -> int:
        """The step, which must be there and intact."""
        known = ', '.join(map(str, steps)) or 'none'
        check(step in steps, 'step', step, f'is not in {self._directory}. Known: {known}')
        folder = self._step_dir(int(step))
        faults = verify_manifest(folder)
        if faults:
            raise UserError(f'checkpoint {folder} is damaged ({_summary(faults)}). Known steps: {known}.')
        return int(step)

    def _newest_intact(self, steps: list[int], warn: bool) -> int:
        faults = {}
        for step in reversed(steps):
            found = verify_manifest(self._step_dir(step))
            if not found:
                break
            faults[step] = _summary(found)
        else:
            listed = '; '.join(f'{step} ({fault})' for step, fault in faults.items())
            raise UserError(
                f'every checkpoint in {self._directory} is damaged: {listed}. Restore a copy, or take another workdir.'
            )
        self._damaged.update(faults)
        for damaged, fault in faults.items() if warn else ():
            warning = f'checkpoint {damaged} is damaged ({fault}); falling back to {step}'
            print(f'WARNING: {warning}', file=sys.stderr, flush=True)
            _logger.warning(warning)
        return step

    def _document(self, step: int) -> dict[str, Any]:
        return read_document(self._step_dir(step))

    def _metric(self, step: int) -> float | None:
        try:
            return self._document(step)['metric']
        except (OSError, ValueError, LookupError, TypeError):  # damaged: it cannot be the best
            return None


def _absolute(directory: epath.PathLike) -> epath.Path:
    """Makes a local path absolute, as Orbax asks; leaves a URL alone."""
    path = epath.Path(directory)
    return path if is_bucket(path) else path.expanduser().resolve()


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `value` as it will be read back, so that what is compared or saved later is plain and a copy."""
    return json.loads(json.dumps(dict(value)))


def _summary(faults: list[str]) -> str:
    more = f' and {len(faults) - 1} more' if len(faults) > 1 else ''
    return f'{faults[0]}{more}'


@contextlib.contextmanager
def _naming_failures(path: epath.Path) -> Iterator[None]:
    """Turns whatever Orbax or the file system raises into an error that names the checkpoint and the free space."""
    try:
        yield
    except Exception as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f'checkpoint {path} could not be saved{free_space(path)}: {cause}') from error
