"""The operations that the networks are made of: plain JAX, and on CPUs what runs fastest there."""

from mobilenets_jax.ops.activations import ACTIVATIONS
from mobilenets_jax.ops.conv import conv
from mobilenets_jax.ops.fuse import fuse
from mobilenets_jax.ops.groups import alternating_channels, channels_by_groups, deal_channels, group_width
from mobilenets_jax.ops.linear import dense_product
from mobilenets_jax.ops.norm import batch_norm, normalize
from mobilenets_jax.ops.pooling import average_pool, max_pool
from mobilenets_jax.ops.resize import resize_bilinear
from mobilenets_jax.ops.squeeze import global_average_pool, scale_channels

__all__ = [
    'ACTIVATIONS',
    'alternating_channels',
    'average_pool',
    'batch_norm',
    'channels_by_groups',
    'conv',
    'deal_channels',
    'dense_product',
    'fuse',
    'global_average_pool',
    'group_width',
    'max_pool',
    'normalize',
    'resize_bilinear',
    'scale_channels',
]
