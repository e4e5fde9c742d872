"""For which kind of device the operations choose their form."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_compiled_for: contextvars.ContextVar[str | None] = contextvars.ContextVar('compiled_for', default=None)


def backend() -> str:
    """'cpu', 'gpu' or 'tpu': JAX's default backend, unless something is compiled for another."""
    return _compiled_for.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """What is traced inside takes the forms for `platform`, though it may not be present."""
    token = _compiled_for.set(platform)
    try:
        yield
    finally:
        _compiled_for.reset(token)
