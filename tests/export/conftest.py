"""The packages of the extra `export`, without which there is nothing to test here but what is said then."""

import pytest

from mobilenets_jax.export.packages import PACKAGES


@pytest.fixture(scope='session')
def packages():
    """Skips where one is missing: `make test-export` brings them."""
    for name in PACKAGES:
        pytest.importorskip(name, reason=f"{name} is not installed: it comes with the extra 'export'")
