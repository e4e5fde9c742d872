"""`python -m mobilenets_jax.ops.cpu.native` builds the native ops now, not when the first network is traced."""

from mobilenets_jax.ops.cpu import native

print('native ops for this CPU:', 'ready' if native.build_now() else 'none')
