"""Compiled programs are cached between starts: a resumed run does not compile its step again."""

import hashlib

import jax

from mobilenets_jax import machine


def enable_cache() -> None:
    """Lets JAX keep the programs that took a second or more to compile, in the user's cache.

    `JAX_COMPILATION_CACHE_DIR` names another folder, and `JAX_ENABLE_COMPILATION_CACHE=0` refuses. Programs for CPUs
    are for one kind of processor, so each kind has a folder of its own.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    kind = hashlib.sha256(machine.processor_features().encode()).hexdigest()[:16]
    jax.config.update('jax_compilation_cache_dir', str(machine.cache_folder() / f'programs-{kind}'))
