"""Reads a config that was saved with a run into the fields of today."""

from collections.abc import Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict, FieldReference

from mobilenets_jax.checkpoints import CheckpointManager
from mobilenets_jax.config import ConfigView
from mobilenets_jax.errors import UserError, check
from mobilenets_jax.hosts import warn
from mobilenets_jax.renamed_fields import with_new_names


def with_saved(config: ConfigDict, saved: Any, source: str) -> tuple[ConfigDict, list[str]]:
    """Sets the values of a saved config in a config of today; fields that an older version did not save stay unchanged.

    Args:
        config: has all fields; changed in place.
        saved: nested, as JSON reads it; its fields may have the names of an older version.
        source: its name in messages, e.g. 'checkpoint 40'.

    Returns:
        The config, and the dotted paths of saved fields that no longer exist and are left out.

    Raises:
        UserError: a saved value does not fit its field.
    """
    if not isinstance(saved, Mapping):
        raise UserError(f'{source}: its config is no object of JSON, but {saved!r:.60}.')
    known, unknown = ConfigView(config.to_dict(), '').leaves(), []
    for path, value in ConfigView(with_new_names(saved), '').leaves().items():
        if path not in known:
            unknown.append(path.removeprefix('.'))
            continue
        *sections, field = path.removeprefix('.').split('.')
        node = config
        for section in sections:
            node = node[section]
        may_be_unset = isinstance(dict(node.items(preserve_field_references=True))[field], FieldReference)
        name = f'{source}: {path.removeprefix(".")}'
        check(value is not None or may_be_unset, name, value, 'is no value of this field, which cannot be unset')
        try:
            node[field] = value
        except TypeError as error:
            kind = type(known[path]).__name__ if known[path] is not None else 'number or word'
            raise UserError(f'{name}={value!r} is no value of this field ({kind}).') from error
    return config, unknown


def describe_unknown(unknown: list[str], source: str) -> str:
    """One line about the fields of a saved config that are left out."""
    return (
        f'{source}: {len(unknown)} field(s) of its config are left out, as there are none today: {", ".join(unknown)}'
    )


def config_of_checkpoint(directory: epath.Path, step: int | None, defaults: ConfigDict) -> tuple[int, dict[str, Any]]:
    """The config that a checkpoint was saved with; one line names fields that no longer exist.

    Args:
        directory: of the checkpoints.
        step: of the checkpoint; None: the newest intact one.
        defaults: the fields of today, changed in place.

    Returns:
        The step, and the value of each field by dotted path.

    Raises:
        UserError: there is no such checkpoint, or it has no such config.
    """
    with CheckpointManager(directory, identity=None, read_only=True) as checkpoints:
        found = checkpoints.describe(step)
    check(found is not None, 'checkpoint', str(directory), 'holds no checkpoint')
    source = f'checkpoint {directory / str(found.step)}'
    if 'config' not in found.meta:
        raise UserError(f'{source} was saved without a config; give it one by --config=FILE.')
    config, unknown = with_saved(defaults, found.meta['config'], source)
    if unknown:
        warn(describe_unknown(unknown, source))
    return found.step, {
        path.removeprefix('config.'): value for path, value in ConfigView(config.to_dict()).leaves().items()
    }
