"""Convolutions of the depthwise separable block, each in the form its kind of device runs fastest."""

from mobilenets_jax.ops.depthwise import depthwise_conv

__all__ = ['depthwise_conv']
