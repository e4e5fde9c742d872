"""The facts about the run, as JSON, that are saved with the arrays of a checkpoint."""

import contextlib
from typing import Any, NamedTuple

from etils import epath

from mobilenets_jax.buckets import list_names
from mobilenets_jax.config import read_json
from mobilenets_jax.errors import UserError
from mobilenets_jax.renamed_fields import with_new_identity, with_new_names

PARTS = ('identity', 'meta', 'arrays')


class Description(NamedTuple):
    """The facts stored in a checkpoint.

    Attributes:
      step: the step under which it was saved.
      meta: as in `Restored`.
      arrays: dtype and shape of each leaf, by name.
      identity: as in `Restored`.
    """

    step: int
    meta: dict[str, Any]
    arrays: dict[str, str]
    identity: dict[str, Any]


def read_document(step_dir: epath.Path) -> dict[str, Any]:
    """The facts: `PARTS`, each an object, and 'metric'; fields that were renamed since have their name of today.

    Raises:
      UserError: they are missing or damaged; names the file.
    """
    path = step_dir / 'meta' / 'metadata'  # as Orbax's JSON handler calls it
    try:
        document = read_json(path)
    except FileNotFoundError:
        raise UserError(f'{path} is missing.') from None
    for part in PARTS:
        if not isinstance(document, dict) or not isinstance(document.get(part), dict):
            raise UserError(f'{path} has no {part!r}, which every checkpoint of this project has.')
    document['identity'] = with_new_identity(document['identity'])
    if isinstance(config := document['meta'].get('config'), dict):
        document['meta']['config'] = with_new_names(config)
    return document


def stored_identity(directory: epath.Path) -> dict[str, Any] | None:
    """The identity that all checkpoints in a folder share; None where there is none, or none that can be read.

    Nothing else is read, and JAX is not asked for its devices.
    """
    try:
        names = list_names(directory)
    except OSError:  # opening it will report it
        return None
    for step in sorted((int(name) for name in names if name.isdecimal()), reverse=True):
        with contextlib.suppress(UserError):  # restoring it will report it
            return read_document(directory / str(step))['identity']
    return None
