"""Operations that keep their name and their options in a traced program, so that `ops.fuse` finds them there."""

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
from jax.extend import core

from mobilenets_jax.ops.backend import backend


class Mark(NamedTuple):
    """What is known of an operation in a traced program.

    Attributes:
        operation: its name.
        options: its first argument.
    """

    operation: str
    options: Any


# By platform: what takes the place of the plain operations of these names.
FORMS: dict[str, dict[str, Callable]] = {}
_marks: dict[str, Mark] = {}


def marked(operation: Callable) -> Callable:
    """Makes `operation(options, *arrays)` a jitted function of its own, whose name in a program says what it is.

    On a platform of `FORMS` the function of that name there takes its place, which comes to the same.

    Args:
        operation: in plain JAX; its options are hashable. Its name counts without a leading underscore.
    """

    @functools.wraps(operation)
    def call(options: tuple[Hashable, ...], *arrays: jax.Array):
        return _jitted(operation, options, *_form())(*arrays)

    return call


def mark_of(equation: core.JaxprEqn) -> Mark | None:
    """The mark of an equation of a traced program, if it has one."""
    return _marks.get(equation.params.get('name', '')) if equation.primitive.name in ('jit', 'pjit') else None


def _form() -> tuple[str, bool]:
    """What a traced operation depends on besides its arguments: the platform, and whether it has native ops."""
    from mobilenets_jax.ops.cpu import native  # it is built on the plain operations, and they on this

    platform = backend()
    return platform, platform == 'cpu' and native.is_available()


@functools.cache
def _jitted(operation: Callable, options: tuple[Hashable, ...], platform: str, has_native: bool) -> Callable:
    name = operation.__name__.removeprefix('_')
    form = FORMS.get(platform, {}).get(name, operation)

    def run(*arrays):
        return form(options, *arrays)

    run.__name__ = f'{name}[{",".join(map(str, options))}]'
    _marks[run.__name__] = Mark(name, options)
    return jax.jit(run)
