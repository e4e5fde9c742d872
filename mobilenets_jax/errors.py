"""The one exception for a user's mistake, and the checks that raise it.

This module imports nothing, so that every other one may import it. The launchers print a `UserError` as one line on
standard error and exit with status 2 (`mobilenets_jax.cli`); any other exception is a bug and keeps its traceback.
"""

from collections.abc import Iterable


class UserError(ValueError):
    """A wrong value from the user: the message is one line that names the field, the value and the known choices."""


def check_choice(field: str, value: object, choices: Iterable[object]) -> None:
    """Raises `UserError` unless `value` is one of `choices`."""
    choices = list(choices)
    if value not in choices:
        known = ', '.join(sorted(map(str, choices)))
        raise UserError(f'{field}={value!r} is unknown. Known: {known}.')


def check(condition: bool, field: str, value: object, requirement: str) -> None:
    """Raises `UserError` saying that `field` `requirement`, e.g. 'must be positive', unless `condition` holds."""
    if not condition:
        raise UserError(f'{field}={value!r} {requirement}.')
