"""A network with a head that a file may hold."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mobilenets_jax.models import get_spec


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A network that has the file's first and last layer.

    Attributes:
        source: whose names the weights have, a key of `names.SOURCES`.
        name: of the backbone.
        width_multiplier: of it.
        convention: of it and of the head.
        head: see `heads.create_segmenter` and `heads.create_detector`.
        fields: further fields of these.
        logits: the file's name for the last layer of the classes.
        num_classes: of the network.
    """

    source: str
    name: str
    width_multiplier: float
    convention: str
    head: str
    fields: tuple[tuple[str, Any], ...]
    logits: str
    num_classes: int


def with_stem(found: Sequence[Candidate], kernel: np.ndarray) -> list[Candidate]:
    """Those whose stem has as many channels as a kernel in our layout."""
    return [candidate for candidate in found if _stem_channels(candidate) == kernel.shape[-1]]


def _stem_channels(candidate: Candidate) -> int:
    fields = {name: value for name, value in candidate.fields if name != 'head_fields'}
    return get_spec(candidate.name, candidate.width_multiplier, candidate.convention, **fields).stem.channels
