"""The two convolutions of a depthwise separable block, each in the form its kind of device runs fastest."""

from mobilenets_jax.ops.depthwise import depthwise_conv
from mobilenets_jax.ops.pointwise import pointwise_conv

__all__ = ['depthwise_conv', 'pointwise_conv']
