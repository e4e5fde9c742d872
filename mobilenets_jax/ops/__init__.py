"""What a depthwise separable block is made of, each in the form that its kind of device runs fastest."""

from mobilenets_jax.ops.batch_norm import batch_norm, normalize
from mobilenets_jax.ops.depthwise import depthwise_conv
from mobilenets_jax.ops.pointwise import pointwise_conv

__all__ = ['batch_norm', 'depthwise_conv', 'normalize', 'pointwise_conv']
