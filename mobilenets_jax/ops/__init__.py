"""What a depthwise separable block is made of, each in the form that its kind of device runs fastest."""

from mobilenets_jax.ops.activations import ACTIVATIONS
from mobilenets_jax.ops.affine import Affine
from mobilenets_jax.ops.batch_norm import batch_norm, normalization
from mobilenets_jax.ops.convolution import Convolution, conv_norm
from mobilenets_jax.ops.dense import dense_conv
from mobilenets_jax.ops.depthwise import depthwise_conv

__all__ = [
    'ACTIVATIONS',
    'Affine',
    'Convolution',
    'batch_norm',
    'conv_norm',
    'dense_conv',
    'depthwise_conv',
    'normalization',
]
