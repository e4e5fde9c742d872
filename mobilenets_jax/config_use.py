"""Which fields of a config have an effect with the values of the others: a setting without effect is an error."""

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mobilenets_jax.config import ConfigView, spellings
from mobilenets_jax.data import SOURCES_OF_TASKS, fields_of_source
from mobilenets_jax.data.options import ABOVE_ZERO, EVALUATION_FIELDS, USED_WITH
from mobilenets_jax.errors import UserError
from mobilenets_jax.hosts import warn
from mobilenets_jax.training.detection import DetectionLossSpec
from mobilenets_jax.training.optimizers import OPTIMIZERS
from mobilenets_jax.training.schedules import SCHEDULES

# Evaluation uses some fields of these sections, and no field of the others, which are for training.
EVALUATED_SECTIONS = ('model', 'data', 'segmentation', 'detection')
# The training split is read in evaluation, too: its classes are those of the labels.
_SPLITS = ('train_split', 'eval_split')
LR_ASPP_FIELDS = ('gate', 'pool_size', 'pool_strides')
# Evaluation uses only one field of a detector's loss: its classification decides how scores are computed.
_LOSS_FIELDS = [field.name for field in dataclasses.fields(DetectionLossSpec) if field.name != 'classification']
_TRAINING_ONLY = (
    *('model.dropout_rate', 'model.drop_path_rate', 'model.bn_momentum', 'model.sync_bn'),
    *(f'detection.{name}' for name in ('bn_momentum', 'class_bias', *_LOSS_FIELDS)),
)


class Condition(NamedTuple):
    """When a field has an effect.

    Attributes:
        deciders: the fields that decide, by dotted path; at least one of them must have a fitting value.
        fits: whether a value fits.
        wanted: the field and its fitting values, for messages.
    """

    deciders: tuple[str, ...]
    fits: Callable[[Any], bool]
    wanted: str


def _above_zero(*deciders: str) -> Condition:
    return Condition(deciders, lambda value: value is not None and value > 0, f'{deciders[0]} {ABOVE_ZERO}')


def _one_of(decider: str, values: Collection[str]) -> Condition:
    return Condition((decider,), lambda value: value in values, _listed(decider, sorted(values)))


def _listed(decider: str, values: Sequence[str]) -> str:
    """E.g. "optimizer.name='adamw' or 'rmsprop'"."""
    *others, last = map(repr, values)
    return f'{decider}={", ".join(others)} or {last}' if others else f'{decider}={last}'


def _declared(section: str, choices: Mapping[str, Callable]) -> Iterator[tuple[str, Condition]]:
    """The conditions of the fields that the choices of a section name as keyword-only arguments."""
    users: dict[str, list[str]] = {}
    for choice, function in choices.items():
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind == parameter.KEYWORD_ONLY:
                users.setdefault(parameter.name, []).append(choice)
    for field, names in users.items():
        duration = field.removesuffix('_steps')
        for path in [f'{section}.{field}'] if duration == field else spellings(f'{section}.{duration}'):
            yield path, _one_of(f'{section}.name', names)


def _of_the_data() -> Iterator[tuple[str, Condition]]:
    everywhere = frozenset.intersection(*map(fields_of_source, itertools.chain(*SOURCES_OF_TASKS.values())))
    for sources in SOURCES_OF_TASKS.values():  # a message names those of one task
        users: dict[str, list[str]] = {}
        for source in sources:
            for field in fields_of_source(source):
                users.setdefault(field, []).append(source)
        for field, names in users.items():

            def uses(name: str, field: str = field) -> bool:
                return field in fields_of_source(name)

            if field not in everywhere:
                yield f'data.{field}', Condition(('data.name',), uses, _listed('data.name', names))
    for field, (decider, values) in USED_WITH.items():
        decider = f'data.{decider}'
        yield f'data.{field}', _above_zero(decider) if values == ABOVE_ZERO else _one_of(decider, values)


def _conditions() -> dict[str, list[Condition]]:
    found: dict[str, list[Condition]] = {}
    taught = Condition(('distillation.teacher',), bool, 'a distillation.teacher')
    quantized = Condition(('quantization.enabled',), bool, 'quantization.enabled=True')
    switches = {
        **{f'distillation.{name}': taught for name in ('weight', 'targets', 'temperature')},
        'new_head': Condition(('init_from',), bool, 'an init_from'),
        'weight_decay.decoupled': _above_zero('weight_decay.rate'),
        'weight_decay.skip': _above_zero('weight_decay.rate'),
        'ema.ramp': _above_zero('ema.decay'),
        'ema.batch_stats': _above_zero('ema.decay'),
        'segmentation.atrous_rates': _one_of('segmentation.head', ['aspp']),
        **{f'segmentation.{name}': _one_of('segmentation.head', ['lr_aspp']) for name in LR_ASPP_FIELDS},
        'schedule.warmup_from': _above_zero(*spellings('schedule.warmup')),
        **{f'quantization.{name}': quantized for name in ('range_momentum', *spellings('delay'), *spellings('freeze'))},
    }
    of_sections = (*_of_the_data(), *_declared('optimizer', OPTIMIZERS), *_declared('schedule', SCHEDULES))
    softened = ('distillation.temperature', _one_of('distillation.targets', ['soft']))
    for path, condition in (*of_sections, *switches.items(), softened):
        found.setdefault(path, []).append(condition)
    return found


# By the field's dotted path; all conditions must hold. A field that is not here always has an effect.
CONDITIONS = _conditions()


def has_effect(leaves: Mapping[str, Any], path: str) -> bool:
    """Whether the field at a dotted path, e.g. 'optimizer.beta1', has one.

    Args:
        leaves: all values of the config, by paths like 'config.optimizer.beta1'.
        path: of the field.
    """
    return _unmet(leaves, path) is None


def fields_in_use(config: ConfigView, section: str) -> dict[str, Any]:
    """The fields of a section that have an effect, by their names; the others are not read."""
    leaves = config.leaves()
    return {name: config[section][name] for name in config[section] if has_effect(leaves, f'{section}.{name}')}


def check_used(config: ConfigView, overrides: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raises `UserError` if a field that was set has no effect: by the command line, or by the config's file.

    Fields that the file sets for another choice than the command line's are left out; one line on standard error names
    them.

    Args:
        config: after all parts of the run were built from it.
        overrides: what the command line sets, by dotted path.
        defaults: what the fields are where nothing sets them, nested.
    """
    leaves, before = config.leaves(), ConfigView(defaults).leaves()
    unmet = {path: _unmet(leaves, path.removeprefix('config.')) for path in leaves}
    unknown = [path for path in config.unread() if unmet[path] is None]
    if unknown:
        raise UserError(f'{", ".join(unknown)}: nothing reads this; remove it or fix its name.')
    unused = {path.removeprefix('config.'): condition for path, condition in unmet.items() if condition is not None}
    # A field that is unset, or False as by default, does not count as set.
    of_command = [
        path
        for path in unused
        if overrides.get(path) is not None and not (overrides[path] is False and before.get(f'config.{path}') is False)
    ]
    of_file = [
        path for path in unused if path not in overrides and leaves[f'config.{path}'] != before.get(f'config.{path}')
    ]
    left_out = [path for path in of_file if any(decider in overrides for decider in unused[path].deciders)]
    wrong = of_command + [path for path in of_file if path not in left_out]
    if wrong:
        more = f' Likewise: {", ".join(wrong[1:])}.' if wrong[1:] else ''
        raise UserError(f'{_describe(leaves, wrong[0])}.{more}')
    if left_out:
        listed = '; '.join(_describe(leaves, path) for path in left_out)
        warn(f'{len(left_out)} field(s) of the config file are left out: {listed}')


def check_used_in_evaluation(config: ConfigView, overrides: Mapping[str, Any]) -> None:
    """Raises `UserError` if the command line sets a field of the network or of the data without effect in evaluation.

    Args:
        config: of the evaluation.
        overrides: what the command line sets, by dotted path.
    """
    leaves = config.leaves()
    for path in overrides:
        section, _, field = path.partition('.')
        if section not in EVALUATED_SECTIONS or overrides[path] is None:
            continue
        if _unmet(leaves, path) is not None:
            raise UserError(f'{_describe(leaves, path)}.')
        of_training = section == 'data' and field not in (*EVALUATION_FIELDS, 'name', 'dir', *_SPLITS)
        if of_training or path in _TRAINING_ONLY:
            raise UserError(f'{path}={overrides[path]!r} has no effect in evaluation, only in training.')


def _unmet(leaves: Mapping[str, Any], path: str) -> Condition | None:
    """The first condition of a field that does not hold."""
    for condition in CONDITIONS.get(path, ()):
        if not any(condition.fits(leaves[f'config.{decider}']) for decider in condition.deciders):
            return condition
    return None


def _describe(leaves: Mapping[str, Any], path: str) -> str:
    """Why a field has no effect, and the values with which it would have one."""
    condition = _unmet(leaves, path)
    decider = condition.deciders[0]
    return (
        f'{path}={leaves[f"config.{path}"]!r} has no effect with {decider}={leaves[f"config.{decider}"]!r}; '
        f'it needs {condition.wanted}'
    )
