"""Networks with random weights as TFLite files, for what does not depend on their values: time, size, operations."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mobilenets_jax.export import converter, lowering
from mobilenets_jax.export.calibration import MIN_IMAGES
from mobilenets_jax.export.quantization import quantize


def random_variables(model: nn.Module, image_size: int, seed: int = 0, channels: int = 3) -> Any:
    """Variables with He-scaled kernels, scales and variances near 1 and small offsets, as NumPy arrays."""
    generator = np.random.default_rng(seed)

    def fill(path, leaf):
        noise = generator.standard_normal(leaf.shape)
        if path[-1].key == 'kernel':
            values = noise * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        elif path[-1].key in ('scale', 'var'):
            values = np.exp(0.1 * noise)
        else:
            values = 0.1 * noise
        return values.astype(leaf.dtype)

    images = jax.ShapeDtypeStruct((2, image_size, image_size, channels), jnp.float32)
    keys = {'params': jax.random.key(0), 'dropout': jax.random.key(1)}
    shapes = jax.eval_shape(lambda keys, images: model.init(keys, images, train=False), keys, images)
    return jax.tree_util.tree_map_with_path(fill, shapes)


def untrained_file(model: nn.Module, image_size: int, int8: bool = False) -> bytes:
    """A classifier with random weights as a TFLite file.

    Args:
        model: see `create_model`.
        image_size: in pixels.
        int8: whether all of it is in 8 bit, by the ranges of random images.

    Raises:
        RunError: the converter or the quantizer fails.
        UserError: it is not installed.
    """
    program = lowering.stablehlo(model, random_variables(model, image_size), (image_size, image_size))
    content = converter.to_tflite(program, lowering.INPUT, lowering.OUTPUT)
    if not int8:
        return content
    images = np.random.default_rng(0).uniform(-1, 1, (MIN_IMAGES, image_size, image_size, 3))
    return quantize(content, 'int8', images.astype(np.float32), 'symmetric')
