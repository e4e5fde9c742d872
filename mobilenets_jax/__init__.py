"""JAX/Flax implementations of the MobileNet line of mobile vision networks."""

__version__ = '0.1.0'
