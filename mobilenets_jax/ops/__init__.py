"""What a depthwise separable block is made of, each in the form that its kind of device runs fastest."""

from mobilenets_jax.ops.activations import ACTIVATIONS
from mobilenets_jax.ops.batch_norm import batch_norm
from mobilenets_jax.ops.convolution import Convolution, Unit, conv_norms
from mobilenets_jax.ops.dense import dense_conv
from mobilenets_jax.ops.depthwise import depthwise_conv
from mobilenets_jax.ops.grouped import channels_by_groups, group_width, pointwise_conv_in_groups
from mobilenets_jax.ops.linear import dense_product
from mobilenets_jax.ops.normalization import Normalization
from mobilenets_jax.ops.pooling import average_pool, max_pool
from mobilenets_jax.ops.separable import Step, convolve_in_turn, runs_in_strips
from mobilenets_jax.ops.squeeze import global_average_pool, scale_channels

__all__ = [
    'ACTIVATIONS',
    'Convolution',
    'Normalization',
    'Step',
    'Unit',
    'average_pool',
    'batch_norm',
    'channels_by_groups',
    'conv_norms',
    'convolve_in_turn',
    'dense_conv',
    'dense_product',
    'depthwise_conv',
    'global_average_pool',
    'group_width',
    'max_pool',
    'pointwise_conv_in_groups',
    'runs_in_strips',
    'scale_channels',
]
