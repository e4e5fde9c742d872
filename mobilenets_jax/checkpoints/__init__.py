"""Saving and restoring of training state: asynchronous, hashed, and exact on any number of hosts."""

from mobilenets_jax.checkpoints.document import Description
from mobilenets_jax.checkpoints.location import locate
from mobilenets_jax.checkpoints.manager import CheckpointManager, Restored
from mobilenets_jax.checkpoints.manifest import verify_manifest, write_manifest

__all__ = ['CheckpointManager', 'Description', 'Restored', 'locate', 'verify_manifest', 'write_manifest']
