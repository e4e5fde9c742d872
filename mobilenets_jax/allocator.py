"""Makes the C library keep memory between training steps on a CPU, instead of returning it and faulting it in again.

A step of MobileNetV2 at 224 px and batch 16 takes and frees 2.3 GB. glibc returns blocks of that size to the system at
once, and the page faults of the next step cost a third of its time. What decides it is read when the process starts.
"""

import ctypes
import importlib.util
import os
import platform
import sys
from collections.abc import Mapping

TUNABLES = (
    'glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:glibc.malloc.arena_max=1'
)
SWITCH = 'MOBILENETS_JAX_KEEP_MEMORY'
# Smaller steps, such as the digits', have no blocks that glibc gives back.
MIN_PIXELS = 1 << 18
# glibc's numbers of the settings that it also takes while a process runs, and the largest sizes that mean anything:
# blocks up to half of a thread's heap come from it, and a heap that falls empty is kept.
_MMAP_THRESHOLD, _TOP_PAD = -3, -2
_HEAP_BYTES = 1 << 26
_ACCELERATORS = ('libtpu', 'jax_cuda12_plugin', 'jax_cuda13_plugin', 'jax_rocm7_plugin')


def keep_memory(pixels_per_step: int) -> None:
    """Restarts the process once with `TUNABLES` if they help, and prints a line on it; `SWITCH`=0 switches it off.

    Args:
        pixels_per_step: height * width * images of one step of this process; four times as many for each of the
            network's strides that is dropped.
    """
    if not _is_worth_it(os.environ, pixels_per_step):
        return
    print(f'memory is kept between the steps (GLIBC_TUNABLES); {SWITCH}=0 refuses', file=sys.stderr, flush=True)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {'GLIBC_TUNABLES': TUNABLES})


def keep_heaps() -> None:
    """Lets glibc's threads keep the memory that they free, from now on; `SWITCH`=0 refuses.

    Threads that decode images take and free blocks of about a megabyte. glibc unmaps such a block, or the heap that it
    was the last of, and the page faults of the next image cost a fourth of its time. Up to 64 MiB stay with a heap.
    """
    if _is_decided(os.environ):
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_MMAP_THRESHOLD, _HEAP_BYTES // 2)
    mallopt(_TOP_PAD, _HEAP_BYTES)


def _is_decided(environment: Mapping[str, str]) -> bool:
    """Whether the user has chosen how memory is kept, or the C library is not glibc."""
    return 'GLIBC_TUNABLES' in environment or environment.get(SWITCH) == '0' or platform.libc_ver()[0] != 'glibc'


def _is_worth_it(environment: Mapping[str, str], pixels_per_step: int) -> bool:
    """Whether this process computes on a CPU, in large steps, with glibc, and the user has not decided otherwise."""
    if _is_decided(environment):
        return False
    on_cpu = environment.get('JAX_PLATFORMS') == 'cpu' or not any(map(importlib.util.find_spec, _ACCELERATORS))
    return on_cpu and pixels_per_step >= MIN_PIXELS
