"""The process is restarted once with the C library's settings if they help, and not if that is switched off."""

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

# In a thread: fills a heap up to the next one, and there takes a block and frees it again and again.
THREAD_SCRIPT = """
import ctypes, resource, threading
from mobilenets_jax import allocator
allocator.keep_heaps()
c = ctypes.CDLL(None)
c.malloc.restype, c.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def work():
    c.free(c.malloc(15 << 20))  # glibc serves blocks up to the largest one freed from heaps.
    first = last = c.malloc(600_000)
    while last >> 26 == first >> 26:
        last = c.malloc(600_000)
    c.free(last)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        block = c.malloc(600_000)
        ctypes.memset(block, 1, 600_000)
        c.free(block)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
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
def test_restarts_once_unless_switched_off(variables, printed, said):
    environment = {name: value for name, value in os.environ.items() if name != 'GLIBC_TUNABLES'} | variables
    ended = subprocess.run([sys.executable, '-c', SCRIPT], env=environment, capture_output=True, text=True, timeout=60)
    assert ended.stdout.strip() == printed
    assert ended.stderr.count('\n') == bool(said) and said in ended.stderr


@pytest.mark.skipif(allocator.platform.libc_ver()[0] != 'glibc', reason='the settings are those of glibc')
def test_threads_keep_what_they_free_unless_refused():
    """600 kB are 147 pages; kept, they are faulted in once, and a hundred times where they are given back."""
    faults = {}
    for switch in ('1', '0'):
        environment = {name: value for name, value in os.environ.items() if name != 'GLIBC_TUNABLES'}
        environment[allocator.SWITCH] = switch
        ended = subprocess.run([sys.executable, '-c', THREAD_SCRIPT], env=environment, capture_output=True, timeout=60)
        faults[switch] = int(ended.stdout)
    assert faults['1'] < 1000 < 10000 < faults['0']


def test_small_steps_stay_as_they_are():
    environment = {'JAX_PLATFORMS': 'cpu'}
    assert not allocator._is_worth_it(environment, 128 * 32 * 32)
