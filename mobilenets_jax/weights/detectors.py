"""Which detectors a file may hold: those that were published, at the width of the file's first layer."""

import dataclasses
from typing import Any

from mobilenets_jax.heads import DETECTION_HEADS
from mobilenets_jax.models.tails import FULL
from mobilenets_jax.weights.candidate import Candidate, with_stem
from mobilenets_jax.weights.files import WeightFile
from mobilenets_jax.weights.layouts import LAYOUTS
from mobilenets_jax.weights.names.detection import STEM, last_layer
from mobilenets_jax.weights.readers.tflite import LAST
from mobilenets_jax.weights.readers.tflite_detection import DetectionEnd

WIDTHS = (0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
V3 = ('mobilenet_v3_large', 'mobilenet_v3_small')
_TAILS = ({'tail': 'detection'}, {'tail': FULL})
# Backbone -> the fields by which its detectors differ; narrow ones have a last convolution that is narrower, too.
_BACKBONES = {
    'mobilenet_v1': [{}],
    'mobilenet_v2': [{}, {'last_channels': 'scaled'}],
    **dict.fromkeys(V3, _TAILS),
}
_LAST_MAP = 5


def is_detector(file: WeightFile) -> bool:
    """Whether a PyTorch file has the layers of torchvision's SSDLite."""
    return f'{last_layer(_LAST_MAP)}.weight' in file.arrays and f'{STEM}.weight' in file.arrays


def candidates(file: WeightFile) -> list[Candidate]:
    """The networks to try.

    Args:
        file: with a detector.
    """
    graph, layout = file.contents.graph, LAYOUTS[file.layout]
    if graph is not None:
        fields = {'head_fields': tuple(_head_fields(graph.detection).items())}
        shape = graph.subgraph.tensors[graph.detection.logits].shape
        num_classes = int(shape[-1]) - 1
        found = [
            Candidate('tflite', name, width, 'tf', head, tuple({**fields, **more}.items()), LAST, num_classes)
            for name, variants in _BACKBONES.items()
            for width in (WIDTHS if name not in V3 else (1.0,))
            for more in variants
            for head in ('tf', 'ssd')
            if not (more.get('last_channels') and width >= 1)
        ]
        return with_stem(found, file.arrays['000/kernel'])
    logits = last_layer(_LAST_MAP)
    anchors = DETECTION_HEADS['torchvision'].anchors
    channels = layout.kernel(file.arrays[f'{logits}.weight'], 'conv').shape[-1]
    num_classes = channels // anchors.per_location(_LAST_MAP) - 1
    found = [
        Candidate('torchvision', name, 1.0, 'torchvision', 'torchvision', tuple(tail.items()), logits, num_classes)
        for name in V3
        for tail in _TAILS
    ]
    return with_stem(found, layout.kernel(file.arrays[f'{STEM}.weight'], 'conv'))


def _head_fields(end: DetectionEnd) -> dict[str, Any]:
    """What a graph's end has otherwise than TensorFlow's head."""
    own = DETECTION_HEADS['tf']
    coder = dataclasses.replace(own.coder, scales=end.scales)
    found = {'coder': coder, 'scores': end.scores}
    return {name: value for name, value in found.items() if value != getattr(own, name)}
