"""Which segmentation networks a file may hold: those that were published, at the width of the file's first layer."""

import dataclasses
from typing import Any

import numpy as np

from mobilenets_jax.identity import CLASSIFICATION, SEGMENTATION
from mobilenets_jax.models import get_spec
from mobilenets_jax.weights.files import WeightFile
from mobilenets_jax.weights.layouts import LAYOUTS
from mobilenets_jax.weights.names.segmentation import STEM
from mobilenets_jax.weights.readers.tflite import LAST

WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A segmentation network that has the file's first and last layer.

    Attributes:
        source: whose names the weights have, a key of `names.segmentation.MAPS`.
        name: of the backbone.
        width_multiplier: of it.
        convention: of it and of the head.
        head: see `heads.create_segmenter`.
        fields: further fields of `heads.create_segmenter`.
        logits: the file's name for the layer of the logits; its channels are the classes.
    """

    source: str
    name: str
    width_multiplier: float
    convention: str
    head: str
    fields: tuple[tuple[str, Any], ...]
    logits: str


def task_of(file: WeightFile) -> str:
    """'segmentation' if the file's network gives a class to every pixel, else 'classification'."""
    if file.contents.graph is not None:
        return file.contents.graph.task
    return SEGMENTATION if file.layout == 'pytorch' and _torchvision_logits(file) else CLASSIFICATION


def candidates(file: WeightFile) -> list[Candidate]:
    """The networks to try.

    Args:
        file: of which `task_of` is 'segmentation'.
    """
    if file.contents.graph is not None:
        kernel = file.arrays[f'{LAST}/kernel']
        head_fields = (('filters', kernel.shape[-2]), ('align_corners', file.contents.graph.align_corners))
        # Deeplab's own narrow networks do not round, those by slim's rule do.
        found = [
            Candidate('tflite', 'mobilenet_v2', width, 'tf', 'r_aspp', (('head_fields', head_fields), *rule), LAST)
            for width in WIDTHS
            for rule in ((), (('divisor', 1),))
        ]
        stem = file.arrays['000/kernel']
    else:
        logits = _torchvision_logits(file)
        head = 'aspp' if logits == 'classifier.4' else 'lr_aspp'
        networks = ('mobilenet_v3_large', 'mobilenet_v3_small')
        found = [Candidate('torchvision', name, 1.0, 'torchvision', head, (), logits) for name in networks]
        stem = LAYOUTS[file.layout].kernel(file.arrays.get(f'{STEM}.weight', np.zeros((0, 3, 3, 3))), 'conv')
    return [candidate for candidate in found if _stem_channels(candidate) == stem.shape[-1]]


def _stem_channels(candidate: Candidate) -> int:
    fields = {name: value for name, value in candidate.fields if name != 'head_fields'}
    return get_spec(candidate.name, candidate.width_multiplier, candidate.convention, **fields).stem.channels


def _torchvision_logits(file: WeightFile) -> str | None:
    """The layer of the logits of torchvision's LR-ASPP or DeepLabv3, whichever the file is of."""
    marks = {'classifier.high_classifier': 'classifier.cbr.0', 'classifier.4': 'classifier.0.convs.0.0'}
    found = [logits for logits, other in marks.items() if {f'{logits}.weight', f'{other}.weight'} <= set(file.arrays)]
    return found[0] if found else None
