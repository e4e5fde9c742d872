"""`python -m mobilenets_jax.ops.cpu.native` builds the kernels now, not when the first network is traced."""

from mobilenets_jax.ops.cpu import native

print('kernels for this CPU:', 'ready' if native.build_now() else 'none')
