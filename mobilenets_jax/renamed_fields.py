"""Fields of the config that had another name in an older version: a config or checkpoint of then keeps its meaning."""

from collections.abc import Collection, Mapping
from typing import Any

# Old name -> name of today, both as dotted paths in one section.
RENAMED = {
    'data.crop': 'data.train_crop',
    'model.dropped_strides': 'model.num_removed_strides',
}


def describe_renamed(path: str, fields: Collection[str]) -> str | None:
    """E.g. 'config.data.crop is now config.data.train_crop'; None if the field at `path` was not renamed.

    Args:
        path: dotted, e.g. 'data.crop'.
        fields: the dotted paths of all fields that the config has today.
    """
    new = RENAMED.get(path)
    return f'config.{path} is now config.{new}' if new in fields else None


def with_new_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a saved config, nested, with each renamed field under its name of today."""
    config = dict(config)
    for old, new in RENAMED.items():
        section, old_field = old.split('.')
        fields = config.get(section)
        if isinstance(fields, Mapping) and old_field in fields:
            config[section] = _renamed(fields, old_field, new.split('.')[1])
    return config


def with_new_paths(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of saved fields by dotted path, with each renamed field under its name of today."""
    return {RENAMED.get(path, path): value for path, value in fields.items()}


def with_new_identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a checkpoint's identity, which names fields without their section, with the names of today."""
    for old, new in RENAMED.items():
        identity = _renamed(identity, old.split('.')[1], new.split('.')[1])
    return dict(identity)


def _renamed(fields: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new if name == old else name: value for name, value in fields.items()}
