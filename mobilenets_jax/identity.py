"""What a checkpoint and the run that reads it must share: task, network, range of its input, and classes."""

import dataclasses
import hashlib
import inspect
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from mobilenets_jax.data.options import DataOptions
from mobilenets_jax.errors import UserError
from mobilenets_jax.hosts import warn
from mobilenets_jax.models import create_model, get_spec

# Every field of the config that changes what a network computes, whether or not it changes the shape of a parameter.
# They are part of a checkpoint's identity, and `init_from` takes them over. A new one is added only here.
NETWORK_FIELDS = (
    'model.name',
    'model.table',
    'model.width_multiplier',
    'model.convention',
    'model.tail',
    'model.num_removed_strides',
    'model.output_stride',
    'model.bn_epsilon',
    'model.divisor',
    'model.padding',
    'model.activation',
    'data.normalization',
)
# These have the convention's value if nothing sets them.
OF_THE_CONVENTION = ('bn_epsilon', 'divisor', 'padding', 'activation')
CLASS_NAMES = 'class_names'
TASK = 'task'
CLASSIFICATION = 'classification'  # also the task of checkpoints of older versions, which name none
SEGMENTATION = 'segmentation'
DETECTION = 'detection'


def task_of(saved: Mapping[str, Any]) -> Any:
    """The task that an identity or a config was saved with."""
    return saved.get(TASK, CLASSIFICATION)


def field_name(path: str) -> str:
    """The name in an identity of a field of the config, e.g. 'output_stride' of 'model.output_stride'."""
    return 'model' if path == 'model.name' else path.rpartition('.')[2]


def network_fields(config: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The value of each of `NETWORK_FIELDS`, by its name in an identity, with the values of the convention filled in.

    Args:
        config: nested; a missing field has its default, since a config saved by an older version does not have the
            newer fields.
        known: values by name that replace the config's, such as those of a checkpoint's identity.
    """
    values: dict[str, Any] = {}
    for path in NETWORK_FIELDS:
        section, field = path.split('.')
        value = config.get(section, {}).get(field)
        values[field_name(path)] = _DEFAULTS.get(field) if value is None else value
    values |= {name: value for name, value in (known or {}).items() if name in values}
    convention = get_spec(
        values['model'], values['width_multiplier'], values['convention'], table=values['table']
    ).convention
    for name in OF_THE_CONVENTION:
        if values[name] is None:
            values[name] = getattr(convention, name)
    return values


def _defaults() -> dict[str, Any]:
    """The defaults of the network fields."""
    parameters = {**inspect.signature(DataOptions).parameters, **inspect.signature(create_model).parameters}
    return {name: value.default for name, value in parameters.items() if value.default is not value.empty}


_DEFAULTS = _defaults()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """What a checkpoint must share with the run that reads it.

    Attributes:
        fields: JSON-able, by name: those of `network_fields`, and 'num_classes'.
        class_names: in the order of the labels.
        data: the origin of the class names, for messages, e.g. "data.dir='flowers'".
        task: a key of `tasks.TASKS`.
        numbered_classes: whether the class names are labels, so that a checkpoint that is only read may call them
            otherwise.
    """

    fields: Mapping[str, Any]
    class_names: Sequence[str]
    data: str = 'the data'
    task: str = CLASSIFICATION
    numbered_classes: bool = False

    @property
    def model(self) -> str:
        """The name of the network."""
        return self.fields['model']

    def to_json(self) -> dict[str, Any]:
        """What is saved with a checkpoint."""
        return {**self.fields, TASK: self.task, CLASS_NAMES: list(self.class_names)}

    def check(self, checkpoint: str, stored: Mapping[str, Any], meta: Mapping[str, Any], *, exact: bool) -> None:
        """Raises `UserError` unless a checkpoint is of this task, this network and these classes.

        Args:
            checkpoint: what the messages call it.
            stored: the result of `to_json` when it was saved; older versions had fewer fields, no task and no classes.
            meta: saved with it, and has the run's 'config', which gives the fields that `stored` does not have.
            exact: whether the checkpoint may have no more classes than the data; see `check_classes`.
        """
        check_task(checkpoint, task_of(stored), self.task)
        if exact or not self.numbered_classes:
            check_classes(checkpoint, stored.get(CLASS_NAMES), self.class_names, self.data, exact=exact)
        held = saved_fields(stored, meta)
        fields = [name for name in {**self.fields, **held} if held.get(name) != self.fields.get(name)]
        if fields:
            raise UserError(
                f'{checkpoint} holds {_describe(held, fields)}; the run asks for {_describe(self.fields, fields)}. '
                'Give the run a directory of its own.'
            )


def saved_fields(stored: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    """The `fields` of the identity that a checkpoint was saved with; arguments as of `Identity.check`."""
    named = {name: value for name, value in stored.items() if name not in (TASK, CLASS_NAMES)}
    return {**named, **network_fields(meta.get('config', {}), named)}


def _describe(values: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The model and its values of some fields."""
    listed = ', '.join(f'{name}={_shown(name, values.get(name, "unset"))}' for name in fields if name != 'model')
    return f'{values["model"]} ({listed})' if listed else values['model']


def _shown(name: str, value: Any) -> str:
    """The value of a field; for a table its hash."""
    if name != 'table':
        return str(value)
    return f'sha256:{hashlib.sha256(value.encode()).hexdigest()[:8]}' if value else 'none'


def check_task(checkpoint: str, stored: str, task: str) -> None:
    """Raises `UserError` unless a checkpoint, as the messages call it, has the requested task."""
    if stored != task:
        raise UserError(
            f'{checkpoint} is of the task {stored!r}; the run asks for {task!r}. Give the run a directory of its own.'
        )


def check_classes(
    checkpoint: str, stored: Sequence[str] | None, names: Sequence[str], data: str, *, exact: bool
) -> None:
    """Raises `UserError` unless the labels of the data mean the classes that a checkpoint learnt.

    Args:
        checkpoint: what the messages call it.
        stored: its class names; None: it was saved by a version without them, which one line on standard error says.
        names: those of the data, in the order of the labels.
        data: their origin.
        exact: whether both numbers must be equal. Otherwise the checkpoint may have more classes than the data, whose
            labels are then compared with its first ones.
    """
    if stored is None:
        warn(f'{checkpoint} names no classes: they cannot be compared with those of {data}')
        return
    # A file system may store an accent as one character or as two: the name is the same.
    learnt, found = ([unicodedata.normalize('NFC', name) for name in row] for row in (stored, names))
    compared = len(found) if not exact and len(found) < len(learnt) else max(len(found), len(learnt))
    rows = [
        [repr(row[label]) if label < len(row) else 'missing' for row in (learnt, found)] for label in range(compared)
    ]
    different = [label for label, (one, other) in enumerate(rows) if one != other]
    if different:
        label = different[0]
        counts = f'{len(different)} of {compared} differ'
        if len(learnt) != len(found):
            counts += f' ({len(found)} classes, {len(learnt)} in the checkpoint)'
        raise UserError(
            f'{checkpoint} knows other classes: class {label} is {rows[label][1]} in {data}, {rows[label][0]} in the '
            f'checkpoint; {counts}.'
        )
