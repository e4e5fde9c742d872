"""XLA's flags for tests that start processes: most of their time is compiling, and none depends on fast programs."""

import jax

FLAGS_OF_ALL = '--xla_backend_optimization_level=0'  # XLA ends on flags that it does not know
FLAGS = FLAGS_OF_ALL
if jax.__version_info__ < (0, 11):
    FLAGS += ' --xla_cpu_use_fusion_emitters=false'
