"""XLA's flags for tests and processes that they start: much of the time is compiling, which fast code prolongs."""

from importlib import metadata

FLAGS_OF_ALL = '--xla_backend_optimization_level=0'  # XLA ends on flags that it does not know
FLAGS = FLAGS_OF_ALL
# Read without importing JAX, which these flags precede.
if tuple(map(int, metadata.version('jax').split('.')[:2])) < (0, 11):
    FLAGS += ' --xla_cpu_use_fusion_emitters=false'
