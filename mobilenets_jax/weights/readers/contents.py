"""What every reader returns."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mobilenets_jax.weights.readers.tflite_graph import Graph


@dataclasses.dataclass(frozen=True)
class Contents:
    """The weights of a file, and its facts about their network.

    Attributes:
        arrays: by the file's names.
        image_size: height and width of the network's input in pixels, where the file states them.
        normalization: range of the network's input, a key of `data.options.NORMALIZATIONS`, where the file states it.
        classifier: the layers that make up the classifier, where the file states them.
        classifier_fault: why they are no classifier of this project, or None.
        backbone_fault: what makes the network another one than the names and shapes of its arrays say, or None.
        rectifier: the activation after the batch norms where the table has ReLU or ReLU6, if the file states it.
        timm: the file's facts about a network of timm, by the keys of timm's pretrained configs and 'architecture'.
        graph: the operations on the weights, if the file has them: of a TFLite file.
        notes: what was assumed or left out: each becomes one line on standard error.
    """

    arrays: dict[str, np.ndarray]
    image_size: int | None = None
    normalization: str | None = None
    classifier: tuple[str, ...] | None = None
    classifier_fault: str | None = None
    backbone_fault: str | None = None
    rectifier: str | None = None
    timm: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    graph: 'Graph | None' = None
    notes: tuple[str, ...] = ()
