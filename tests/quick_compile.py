"""XLA's flags for tests that start processes: most of their time is compiling, and none depends on fast programs."""

import jax

FLAGS = '--xla_backend_optimization_level=0'
if jax.__version_info__ < (0, 11):  # newer ones have no such flag, and end on flags that they do not know
    FLAGS += ' --xla_cpu_use_fusion_emitters=false'
