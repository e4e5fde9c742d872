"""The packages that only export needs: LiteRT, its converter and its quantizer."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from mobilenets_jax.errors import EXTRAS

PACKAGES = [package for package, extra in EXTRAS.items() if extra == 'export']


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
