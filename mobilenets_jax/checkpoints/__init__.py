"""Saving and restoring of training state: asynchronous, hashed, and exact on any number of hosts."""

from mobilenets_jax.checkpoints.manager import BEST, CheckpointManager, Restored
from mobilenets_jax.checkpoints.manifest import verify_manifest, write_manifest

__all__ = ['BEST', 'CheckpointManager', 'Restored', 'verify_manifest', 'write_manifest']
