"""`python -m mobilenets_jax.ops.native` builds the kernels now, not when the first network is traced."""

from mobilenets_jax.ops import native

print('kernels for this CPU:', 'ready' if native.build_now() else 'none')
