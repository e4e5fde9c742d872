"""The forms that the operations have on a CPU."""

import jax
import pytest

from mobilenets_jax.ops.cpu import native


@pytest.fixture(autouse=True)
def skip_without_kernels(request):
    """Tests of the kernels need a C++ compiler."""
    arguments = request.node.callspec.params.values() if hasattr(request.node, 'callspec') else ()
    if 'native' in [value for value in arguments if isinstance(value, str)] and not native.is_available():
        pytest.skip('the native ops for this CPU cannot be built here')


@pytest.fixture(params=['native', 'plain'])
def form(request, monkeypatch):
    """Traces once with the native ops for this CPU, once without."""
    if request.param == 'plain':
        monkeypatch.setattr(native, 'is_available', lambda: False)
    jax.clear_caches()
    yield request.param
    jax.clear_caches()
