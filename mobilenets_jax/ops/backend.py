"""For which kind of device the operations choose their form."""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping, Sequence

import jax

from mobilenets_jax.errors import check_choice

# What is traced for this platform is converted to other formats: the forms that converters make the fewest and the most
# usual operations of.
EXPORT = 'export'

_compiled_for: contextvars.ContextVar[str | None] = contextvars.ContextVar('compiled_for', default=None)


def backend() -> str:
    """'cpu', 'gpu' or 'tpu': JAX's default backend, unless something is compiled for another, or for `EXPORT`."""
    return _compiled_for.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """What is traced inside takes the forms for `platform`, though it may not be present."""
    token = _compiled_for.set(platform)
    try:
        yield
    finally:
        _compiled_for.reset(token)


def chosen(implementation: str, known: Sequence[str], by_backend: Mapping[str, str], *, has_native_op: bool) -> str:
    """The implementation that an operation takes.

    Args:
      implementation: what was asked for: one of `known`, or 'auto' for what suits the backend at trace time.
      known: names of all implementations.
      by_backend: one of them for each of 'cpu', 'gpu' and 'tpu'.
      has_native_op: whether there is a native op for CPUs, which 'auto' prefers.

    Raises:
      UserError: `implementation` is unknown.
    """
    check_choice('implementation', implementation, ('auto', *known))
    if implementation != 'auto':
        return implementation
    return 'native' if has_native_op else by_backend.get(backend(), by_backend['gpu'])
