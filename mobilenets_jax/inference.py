"""A trained network as a function of images alone, and what one must know of it to use it elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from mobilenets_jax.ops import fuse


class TrainedNetwork(NamedTuple):
    """A network of any task with its weights, and what must be known where it is used.

    Attributes:
        model: with the call contract of `mobilenets_jax.models`.
        variables: 'params' and 'batch_stats'.
        task: a key of `tasks.TASKS`.
        image_size: height and width of its images, in pixels.
        normalization: of them, a key of `data.options.NORMALIZATIONS`.
        class_names: in the order of the labels; (): none are stated.
        labels: a name for each of its logits, of a detector the background's first.
        labelled: what has logits: 'images', 'pixels' or 'anchors'.
        config: JSON-able, by dotted path: the fields with which eval.py measures it as it was meant to be.
        read: an image file, as evaluation makes a network's input of it before it is normalised, uint8 [H, W, 3].
        facts: JSON-able: what else makes results of its outputs.
        anchors: of a detector's rows, [y, x, height, width] as fractions of the image, float32 [A, 4].
        ranges: of its activations, (least, largest value) by the names of `fake_quantization`, if it was trained for 8
            bit.
    """

    model: nn.Module
    variables: Mapping[str, Any]
    task: str
    image_size: tuple[int, int]
    normalization: str
    class_names: Sequence[str]
    labels: Sequence[str]
    labelled: str
    config: Mapping[str, Any]
    read: Callable[[str], np.ndarray]
    facts: Mapping[str, Any] = {}
    anchors: np.ndarray | None = None
    ranges: Mapping[str, tuple[float, float]] = {}


def freeze(model: nn.Module, variables: Mapping[str, Any]) -> Callable[[jax.Array | np.ndarray], jax.Array]:
    """Makes the parameters constants of the compiled program.

    A network has some hundred arrays, and looking at them as arguments of each call takes a good part of the time of a
    single image. The function keeps the parameters that it was made with, whatever happens to `variables`. On a CPU,
    `jax.config.update('jax_cpu_enable_async_dispatch', False)`, before anything is computed, saves a single image the
    way to another thread and back.

    Args:
        model: see `create_model`.
        variables: its parameters and statistics.

    Returns:
        A function from images, float [N, H, W, 3], to logits, float32 [N, classes]; compiled when it meets a shape for
        the first time.
    """
    kept = jax.device_put(variables)
    return jax.jit(fuse(lambda images: model.apply(kept, images, train=False)[0]))
