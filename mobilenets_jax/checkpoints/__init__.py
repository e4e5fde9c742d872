"""Saving and restoring of training state: asynchronous, hashed, and exact on any number of hosts."""

from mobilenets_jax.checkpoints.document import Description, stored_identity
from mobilenets_jax.checkpoints.location import find_checkpoints, locate
from mobilenets_jax.checkpoints.manager import BEST, CheckpointManager, Restored
from mobilenets_jax.checkpoints.manifest import verify_manifest, write_manifest

__all__ = [
    'BEST',
    'CheckpointManager',
    'Description',
    'Restored',
    'find_checkpoints',
    'locate',
    'stored_identity',
    'verify_manifest',
    'write_manifest',
]
