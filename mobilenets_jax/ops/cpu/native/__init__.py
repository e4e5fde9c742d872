"""Native ops for CPUs, written in C++ and called by XLA; the forms in plain JAX take their place where there are none.

XLA:CPU reads and writes the images of a depthwise network two to three times as often as it must, and a part of the
time on one core. The native ops are compiled once for this machine's processor, by the C++ compiler that is found, when
the first network is traced on it, and kept in the user's cache.
"""

import concurrent.futures
import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mobilenets_jax import machine
from mobilenets_jax.errors import UserError
from mobilenets_jax.ops.backend import backend

SWITCH = 'MOBILENETS_JAX_NATIVE'
# Without errno, as no vector instruction sets it, and one square root at a time would.
FLAGS = ('-O3', '-march=native', '-fno-math-errno', '-std=c++20', '-fPIC', '-pthread')
DTYPES = ('float32', 'float64', 'bfloat16')  # the last only where the processor has tile registers for it
BUILD_SECONDS = 120  # that a start may wait; a minute is usual
PATIENT_BUILD_SECONDS = 1200  # where somebody asked for the build and nothing else
NEXT_ATTEMPT_SECONDS = 24 * 60 * 60  # after one that failed
MAX_TAPS = 16  # along one axis; depthwise.h, max_kernel
# Their numbers in activations.h.
ACTIVATIONS = {'linear': 0, 'relu': 1, 'relu6': 2, 'hard_swish': 3}
_FOLDER = pathlib.Path(__file__).parent
_KERNELS = (
    'norm_sums',
    'norm_apply',
    'norm_gradient_sums',
    'norm_gradient_apply',
    'dense',
    'dense_kernel_gradient',
    'pointwise_norm_gradient',
    'grouped',
    'grouped_norm_gradient',
    'depthwise',
    'depthwise_gradient',
    'depthwise_norm_gradient',
    'separable',
    'global_average_pool',
    'scale_channels',
)


def supports(dtype: jnp.dtype, activation: str = 'linear') -> bool:
    """Whether what is traced now is for a CPU that has native ops for arrays of `dtype`, and they know the activation.

    For bfloat16 the processor must have tile registers, and the system must give them.
    """
    name = jnp.dtype(dtype).name
    if name not in DTYPES or activation not in ACTIVATIONS or backend() != 'cpu' or not is_available():
        return False
    return name != 'bfloat16' or _library().allows_bfloat16()


def wide_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """What sums and statistics of arrays of `dtype` are stored in: float32 or wider."""
    return jnp.promote_types(dtype, jnp.float32)


def check(operation: str, dtype: jnp.dtype) -> None:
    """Raises a UserError if an operation is asked to use a native op that does not exist."""
    if not supports(dtype):
        raise UserError(
            f"{operation} has no implementation='native' here for {jnp.dtype(dtype).name} on {backend()}: "
            f'it takes {" or ".join(DTYPES)}, a CPU that has it, a C++ compiler, and {SWITCH} other than 0.'
        )


def is_available() -> bool:
    """Whether the native ops are registered with JAX in this process: builds them first if nobody did.

    Says in one line on stderr that it builds, and why it could not. It holds nobody up for more than `BUILD_SECONDS`,
    and after an attempt that failed not again for a day. `SWITCH`=0 refuses.
    """
    return _library() is not None


def build_now() -> bool:
    """Builds the native ops if nobody did, however long it takes and whatever failed before; see `is_available`."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):  # `is_available` says why
        _built(_compiler(), PATIENT_BUILD_SECONDS, again=True)
    return is_available()


@functools.cache
def _library() -> ctypes.CDLL | None:
    if os.environ.get(SWITCH) == '0':
        return None
    try:
        library = ctypes.CDLL(str(_built(_compiler(), BUILD_SECONDS)))
    except (OSError, subprocess.SubprocessError) as error:
        print(f'no native ops for this CPU, networks are slower: {_reason(error)}', file=sys.stderr)
        return None
    library.allows_bfloat16.restype = ctypes.c_bool
    for name in _KERNELS:
        jax.ffi.register_ffi_target(_target(name), jax.ffi.pycapsule(library[f'{name}_handler']), platform='cpu')
    return library


def call(
    name: str,
    results,
    *arrays: jax.Array,
    statistics: Sequence[jax.Array] = (),
    activation: str | None = None,
    **attributes: int | float,
):
    """Calls the native op `name`; see forward.cc and gradients.cc.

    Args:
      name: one of the native ops.
      results: what has the shape and the dtype of the result, or a sequence of such.
      *arrays: of one dtype that `supports` accepts.
      statistics: further arrays, of the `wide_dtype` of those.
      activation: a key of `ACTIVATIONS`, for the native ops that take one.
      **attributes: numbers, whole or not as the native op has them.

    Returns:
      An array, or a list of them, as `results` says.

    Raises:
      ValueError: an array has another dtype, and the native op would read it wrongly.
    """
    dtype = arrays[0].dtype
    for some, wanted in ((arrays, dtype), (statistics, wide_dtype(dtype))):
        if others := sorted({array.dtype.name for array in some} - {wanted.name}):
            raise ValueError(f'The native op {name} takes {wanted} with inputs of {dtype}, not {" or ".join(others)}.')
    if activation is not None:
        attributes['activation'] = ACTIVATIONS[activation]
    numbers = {key: (np.float64 if isinstance(value, float) else np.int64)(value) for key, value in attributes.items()}
    shapes = jax.tree.map(lambda result: jax.ShapeDtypeStruct(result.shape, result.dtype), results)
    return jax.ffi.ffi_call(_target(name), shapes, vmap_method='sequential')(*arrays, *statistics, **numbers)


def _target(name: str) -> str:
    return f'mobilenets_jax_{name}'


def _compiler() -> str:
    compiler = next(filter(None, map(shutil.which, (os.environ.get('CXX', 'c++'), 'g++', 'clang++'))), None)
    if compiler is None:
        raise OSError('no C++ compiler was found')
    return compiler


def _reason(error: Exception) -> str:
    """Why there are no native ops, in one line."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f'the compiler was not ready after {error.timeout:g} s'
    output = getattr(error, 'stderr', None)  # of the compiler: not always text, and mostly of many lines
    reason = output if isinstance(output, str) and output.strip() else str(error)
    return reason.strip().splitlines()[0]


def _built(compiler: str, timeout_seconds: float, *, again: bool = False) -> pathlib.Path:
    """The library for this source, compiler, jaxlib and processor, from the cache or new.

    Args:
      compiler: its path.
      timeout_seconds: for the whole build.
      again: whether to build although an attempt failed less than a day ago.

    Raises:
      OSError: it cannot be built, or could not the last time.
      subprocess.SubprocessError: the compiler failed, or took too long; this is remembered for a day.
    """
    command = [compiler, *FLAGS, f'-I{jax.ffi.include_dir()}']
    versions = importlib.metadata.version('jaxlib'), platform.processor(), machine.processor_features()
    key = hashlib.sha256(repr((command, versions)).encode())
    for source in sorted(_FOLDER.glob('*.[hc]*')):
        key.update(source.read_bytes())
    folder = machine.cache_folder()
    path = folder / f'kernels-{key.hexdigest()[:16]}.so'
    failure = path.with_suffix('.failed')
    if path.exists():
        return path
    if not again and failure.exists() and time.time() - failure.stat().st_mtime < NEXT_ATTEMPT_SECONDS:
        raise OSError(f'{failure.read_text()} (once a day; python -m {__name__} tries now)')
    print(f'building native ops for this CPU, once ({SWITCH}=0 refuses): {path}', file=sys.stderr, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        built = pathlib.Path(temporary, 'kernels.so')
        try:
            _build(command, built, timeout_seconds)
        except (OSError, subprocess.SubprocessError) as error:
            failure.write_text(_reason(error))
            raise
        built.rename(path)  # whole or not at all, also where several processes build at once
    failure.unlink(missing_ok=True)
    return path


def _build(command: Sequence[str], library: pathlib.Path, timeout_seconds: float) -> None:
    """Compiles the sources at once, which is why there are two, and links them."""
    deadline = time.monotonic() + timeout_seconds

    def run(*arguments: str) -> None:
        left = max(deadline - time.monotonic(), 0)
        try:
            subprocess.run([*command, *arguments], check=True, capture_output=True, text=True, timeout=left)
        except subprocess.TimeoutExpired as error:
            raise subprocess.TimeoutExpired(error.cmd, timeout_seconds) from None

    sources = sorted(_FOLDER.glob('*.cc'))
    objects = [str(library.with_name(f'{source.stem}.o')) for source in sources]
    with concurrent.futures.ThreadPoolExecutor() as threads:
        list(threads.map(lambda source, to: run('-c', str(source), '-o', to), sources, objects))
    run('-shared', *objects, '-o', str(library))
