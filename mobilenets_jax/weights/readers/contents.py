"""What every reader returns."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mobilenets_jax.weights.readers.tflite_graph import Graph


@dataclasses.dataclass(frozen=True)
class Contents:
    """The weights of a file, and what it says about the network that they belong to.

    Attributes:
        arrays: by the file's names.
        image_size: height and width of the network's input in pixels, where the file states them.
        value_range: range of the network's input, a key of `data.options.NORMALIZATIONS`, where the file states it.
        graph: what the file does with the weights, where it says so: of a TFLite file.
        notes: what was assumed or left out: each becomes one line on standard error.
    """

    arrays: dict[str, np.ndarray]
    image_size: int | None = None
    value_range: str | None = None
    notes: tuple[str, ...] = ()
    graph: 'Graph | None' = None
