"""The exceptions that are no bugs of ours, the checks that raise them, and what is printed for them.

This module imports nothing of the package, so that every other one may import it. The launchers print a `UserError` as
one line on standard error and exit with status 2 (`mobilenets_jax.cli`); a `RunError`, or a file that could not be read
or written, is one line and status 1; any other exception is a bug and keeps its traceback.
"""

import difflib
import errno
import importlib
import os
import shutil
from collections.abc import Iterable
from types import ModuleType

USER_ERROR_STATUS = 2
RUN_ERROR_STATUS = 1

# The extra of pyproject.toml that brings a package which not every command needs.
EXTRAS = {
    **dict.fromkeys(('tensorflow', 'tensorflow_datasets', 'array_record', 'yaml'), 'data'),
    'h5py': 'weights',
    **dict.fromkeys(('litert_converter', 'ai_edge_litert', 'ai_edge_quantizer'), 'export'),
    **dict.fromkeys(('matplotlib', 'tensorboardX', 'scipy'), 'report'),
    'faster_coco_eval': 'detection',
    'wandb': 'wandb',
}

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(ValueError):
    """A wrong value from the user: the message is one line that names the field, the value and the known choices."""


class RunError(RuntimeError):
    """What ended a run whose values are right, such as a loss that is not finite: the message is one line."""


def check_choice(field: str, value: object, choices: Iterable[object]) -> None:
    """Raises `UserError` unless `value` is one of `choices`; names the one that is spelled most like it."""
    choices = list(choices)
    if value not in choices:
        names = sorted(map(str, choices))
        raise UserError(f'{field}={value!r} is unknown. Known: {", ".join(names)}.{did_you_mean(value, names)}')


def did_you_mean(value: object, choices: Iterable[str], cutoff: float = 0.8) -> str:
    """A question for the choice that is spelled most like `value`, to stand behind a message.

    It is '' if none is like it by `cutoff`, in [0, 1]; with 0 any is.
    """
    close = difflib.get_close_matches(str(value), list(choices), n=1, cutoff=cutoff)
    return f' Did you mean {close[0]!r}?' if close else ''


def check(condition: bool, field: str, value: object, requirement: str) -> None:
    """Raises `UserError` saying that `field` `requirement`, e.g. 'must be positive', unless `condition` holds."""
    if not condition:
        raise UserError(f'{field}={value!r} {requirement}.')


def one_line(error: BaseException) -> str:
    """The text of an error of another library in one line; its type if it has no text."""
    return ' '.join(str(error).split()) or type(error).__name__


def describe(error: BaseException) -> tuple[str, int] | None:
    """The line that is printed for an error, and the exit status; None for a bug, which keeps its traceback."""
    if isinstance(error, UserError):
        return str(error), USER_ERROR_STATUS
    if isinstance(error, RunError):
        return str(error), RUN_ERROR_STATUS
    if isinstance(error, ModuleNotFoundError) and (line := _missing_package(error)):
        return line, USER_ERROR_STATUS
    if isinstance(error, BrokenPipeError) and error.filename is None:
        return 'nobody reads the output.', RUN_ERROR_STATUS
    if isinstance(error, OSError) and error.filename is not None:
        reason = error.strerror or type(error).__name__
        if error.errno in _FULL:
            reason += free_space(error.filename)
        return f'{os.fsdecode(error.filename)}: {reason}.', RUN_ERROR_STATUS
    return None


def needed(module: str) -> ModuleType:
    """Imports a module of a package of `EXTRAS`; raises `UserError` naming the extra where it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(_missing_package(error) or str(error)) from error


def _missing_package(error: ModuleNotFoundError) -> str | None:
    """A line with the extra that brings a package which is not installed; None if no extra does."""
    package = (error.name or '').partition('.')[0]
    if package not in EXTRAS:
        return None
    extra = f'mobilenets_jax[{EXTRAS[package]}]'
    return f"the Python package {package} is needed and not installed: pip install '{extra}' brings it."


def free_space(path: str | os.PathLike) -> str:
    """E.g. ' (1.2 GB free)', of the disk that a local file is on, or would be; '' where that is not known."""
    folder = os.path.abspath(path)
    while not os.path.exists(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    try:
        return '' if '://' in str(path) else f' ({shutil.disk_usage(folder).free / 1e9:.1f} GB free)'
    except OSError:
        return ''
