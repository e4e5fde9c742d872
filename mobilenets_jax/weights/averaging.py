"""The mean of several checkpoints of one network, saved as a checkpoint of its own.

Reference: torchvision's MobileNetV3 averages the last three checkpoints that improved the accuracy
    (pytorch/vision references/classification/README.md, pull requests 3182 and 3354). Izmailov et al., 1803.05407, take
    the running statistics anew from the training set instead; here they are averaged as the parameters are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from etils import epath

from mobilenets_jax.checkpoints import CheckpointManager, Restored, find_checkpoints
from mobilenets_jax.checkpoints.arrays import check_fit, describe
from mobilenets_jax.config import write_json
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.identity import CLASS_NAMES, Identity, saved_fields, task_of
from mobilenets_jax.weights.trained import variables_of


class Source(NamedTuple):
    """One checkpoint.

    Attributes:
        directory: the folder of checkpoints that it is in.
        step: its step; None: the newest intact one.
    """

    directory: epath.Path
    step: int | None


def find_sources(paths: Sequence[str], last: int | None, best: int | None) -> list[Source]:
    """The checkpoints that are averaged.

    Args:
        paths: a workdir, whose checkpoints are all taken unless `last` or `best` is given; or several workdirs and
            folders of steps, of which each gives one checkpoint: a workdir its newest.
        last: how many of the newest checkpoints of the one workdir are taken.
        best: how many of its checkpoints with the highest metric.

    Raises:
        UserError: there are none, or fewer than asked for.
    """
    found = {path: find_checkpoints(path) for path in paths}
    for path, place in found.items():
        check(place is not None, 'CHECKPOINT', path, 'holds no checkpoint')
    places = [Source(*found[path]) for path in paths]
    chosen = [f'--{name}' for name, value in (('last', last), ('best', best)) if value is not None]
    if len(places) > 1 or places[0].step is not None:
        check(not chosen, chosen[0] if chosen else '', last or best, 'needs one workdir')
        check(len(places) > 1, 'CHECKPOINT', paths[0], 'is one checkpoint: nothing is averaged')
        return places
    return _of_a_run(places[0].directory, paths[0], last, best)


def _of_a_run(directory: epath.Path, path: str, last: int | None, best: int | None) -> list[Source]:
    with CheckpointManager(directory, identity=None, read_only=True) as checkpoints:
        steps, ranked = checkpoints.steps(), checkpoints.best_steps()
    flag, count, known = ('--best', best, ranked) if best is not None else ('--last', last, steps)
    if count is not None:
        check(count > 1, flag, count, 'must be 2 or more')
    of = 'checkpoints with a metric' if best is not None else 'checkpoints'
    if len(known) < (count or 2):
        listed = ', '.join(map(str, known)) or 'none'
        raise UserError(
            f'{path} holds {len(known)} {of} ({listed}), {count or 2} are to be averaged: a run keeps as many as '
            'its checkpoint.keep_last says, and the best one.'
        )
    taken = known if count is None else (known[:count] if best is not None else known[-count:])
    return [Source(directory, step) for step in sorted(taken)]


def average(sources: Sequence[Source], out: epath.Path, which: str) -> list[Restored]:
    """Writes `out`/checkpoints/STEP, the mean of the checkpoints, under the highest of their steps.

    Sums are made in float64. The result has 'params' and 'batch_stats' alone, so that whatever reads it takes them
    whether it asks for averaged or raw parameters; no training run can go on from it, but `init_from` takes it.

    Args:
        sources: of one network and one list of classes.
        out: the new workdir; it gets the config of the checkpoint of the highest step, too.
        which: 'ema': averaged parameters and statistics of each checkpoint that has some; or 'raw'.

    Returns:
        What the checkpoints hold besides their arrays, whose `state` is empty, in the order of `sources`.

    Raises:
        UserError: the checkpoints are of two networks, tasks or lists of classes; one is damaged; or `out` holds
            checkpoints already.
    """
    check(not find_checkpoints(out), '--out', str(out), 'holds checkpoints already')
    identity, sums, restored, names = None, None, [], []
    for source in sources:
        found = _read(source)
        name, variables = _name(source, found.step), variables_of(found.state, which)
        check(name not in names, 'CHECKPOINT', name, 'is named twice')
        names.append(name)
        if identity is None:
            identity, shapes = _identity(found, name), jax.tree.map(_shape, variables)
            sums = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float64), shapes)
        identity.check(f'checkpoint {name}', found.identity, found.meta, exact=True)
        check_fit(f'checkpoint {name}', describe(variables), shapes, partial=False)
        sums = jax.tree.map(np.add, sums, variables)
        restored.append(found._replace(state={}))
    mean = jax.tree.map(lambda total, leaf: (total / len(sources)).astype(leaf.dtype), sums, shapes)
    newest = max(restored, key=lambda found: found.step)
    facts = {name: newest.meta[name] for name in ('config', 'fingerprints') if name in newest.meta}
    with CheckpointManager(out / 'checkpoints', identity=identity) as checkpoints:
        checkpoints.save(newest.step, mean, meta={**facts, 'average_of': names, 'params': which})
    if 'config' in facts:
        write_json(out / 'config.json', facts['config'])
    return restored


def _read(source: Source) -> Restored:
    with CheckpointManager(source.directory, identity=None, read_only=True) as checkpoints:
        found = checkpoints.restore(None, step=source.step)
    check(found is not None, 'CHECKPOINT', str(source.directory), 'holds no checkpoint')
    check('params' in found.state, 'CHECKPOINT', _name(source, found.step), 'is no checkpoint of a training run')
    return found


def _name(source: Source, step: int) -> str:
    return str(source.directory / str(step))


def _identity(found: Restored, name: str) -> Identity:
    """What the others must share with the first checkpoint."""
    names = found.identity.get(CLASS_NAMES)
    check(names is not None, 'CHECKPOINT', name, 'names no classes: an older version saved it')
    fields = saved_fields(found.identity, found.meta)
    return Identity(fields=fields, class_names=names, data='the first checkpoint', task=task_of(found.identity))


def _shape(leaf: np.ndarray) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
