"""The process is started anew with the C library's settings where they help, once, and not where somebody refuses."""

import os
import subprocess
import sys

import pytest

from mobilenets_jax import allocator

SCRIPT = """
import os
from mobilenets_jax import allocator
allocator.keep_memory(16 * 224 * 224)
print(os.environ.get('GLIBC_TUNABLES'))
"""


@pytest.mark.skipif(allocator.platform.libc_ver()[0] != 'glibc', reason='the settings are those of glibc')
@pytest.mark.parametrize(
    ('variables', 'printed', 'said'),
    [
        ({'JAX_PLATFORMS': 'cpu'}, allocator.TUNABLES, 'MOBILENETS_JAX_KEEP_MEMORY=0 refuses'),
        ({'JAX_PLATFORMS': 'cpu', allocator.SWITCH: '0'}, 'None', ''),
        ({'JAX_PLATFORMS': 'cpu', 'GLIBC_TUNABLES': 'glibc.malloc.check=0'}, 'glibc.malloc.check=0', ''),
    ],
)
def test_starts_anew_once_unless_refused(variables, printed, said):
    environment = {name: value for name, value in os.environ.items() if name != 'GLIBC_TUNABLES'} | variables
    ended = subprocess.run([sys.executable, '-c', SCRIPT], env=environment, capture_output=True, text=True, timeout=60)
    assert ended.stdout.strip() == printed
    assert ended.stderr.count('\n') == bool(said) and said in ended.stderr


def test_small_steps_stay_as_they_are():
    environment = {'JAX_PLATFORMS': 'cpu'}
    assert not allocator._is_worth_it(environment, 128 * 32 * 32)
