"""The packages that only export needs: LiteRT, its converter and its quantizer."""

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

from mobilenets_jax.errors import UserError, missing_package

PACKAGES = ('litert_converter', 'ai_edge_litert', 'ai_edge_quantizer')


def needed(module: str) -> ModuleType:
    """Imports a module of one of the packages; raises `UserError` naming the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(missing_package(error) or str(error)) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops what is written to standard error inside, also by C++: LiteRT and the quantizer greet and count there."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as dropped:
        os.dup2(dropped.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
