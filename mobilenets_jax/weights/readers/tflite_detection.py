"""The last operator of an SSD's TFLite file: the anchors, the meaning of the codes, and how scores are computed.

Reference: tensorflow/lite/kernels/detection_postprocess.cc of TensorFlow 2.21. Its non-maximum suppression is made for
    phones (ten boxes, one class each) and is not read: no published AP is measured with it.
"""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from mobilenets_jax.weights.readers.errors import UnreadableFileError

if TYPE_CHECKING:
    from mobilenets_jax.weights.readers.tflite_graph import Graph

OPERATOR = 'CUSTOM TFLite_Detection_PostProcess'
_SCALES = ('y_scale', 'x_scale', 'h_scale', 'w_scale')  # in the order of our codes
_SCORES = {'LOGISTIC': 'sigmoid', 'SOFTMAX': 'softmax'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectionEnd:
    """The end of a detector.

    Attributes:
        codes: the tensor of the codes, [1, A, 4].
        logits: the tensor of the logits, [1, A, 1 + classes].
        scores: what makes scores of logits, 'sigmoid' or 'softmax'.
        scales: what codes are multiplied by: y, x, height, width.
        anchors: float32 [A, 4] [y, x, height, width].
        tolerance: to which the file holds the anchors.
    """

    codes: int
    logits: int
    scores: str
    scales: tuple[float, float, float, float]
    anchors: np.ndarray
    tolerance: float

    @property
    def num_anchors(self) -> int:
        """How many anchors there are."""
        return len(self.anchors)


def read_end(graph: 'Graph') -> DetectionEnd:
    """The end of a graph whose last operator is `OPERATOR`.

    Raises:
        UnreadableFileError: the operators before it are not those of our detectors.
    """
    operator = graph.subgraph.operators[-1]
    if len(operator.inputs) != 3:
        count = len(operator.inputs)
        raise UnreadableFileError(f'the operator {OPERATOR} has {count} inputs; codes, scores and anchors are expected')
    codes, scores, anchors = operator.inputs
    codes, scores = graph.source(codes), graph.source(scores)
    made_by = [
        number for number, other in enumerate(graph.subgraph.operators) if scores in [int(i) for i in other.outputs]
    ]
    name = graph.operators[made_by[0]] if made_by else 'nothing'
    if name not in _SCORES:
        raise UnreadableFileError(f'its scores come from {name}, where one of {", ".join(_SCORES)} is expected')
    values, scheme = graph.constant(graph.source(anchors)), graph.subgraph.tensors[anchors].quantization
    if values is None or values.ndim != 2 or values.shape[1] != 4:
        raise UnreadableFileError('its anchors are no constant of four numbers each')
    quantized = scheme is not None and scheme.scale is not None
    return DetectionEnd(
        codes=codes,
        logits=graph.source(graph.subgraph.operators[made_by[0]].inputs[0]),
        scores=_SCORES[name],
        scales=_scales(bytes(operator.customOptions)),
        anchors=values,
        tolerance=float(scheme.scale[0]) if quantized else 0.0,
    )


def _scales(options: bytes) -> tuple[float, ...]:
    from flatbuffers import flexbuffers

    fields = flexbuffers.GetRoot(options).AsMap
    return tuple(float(fields[name].AsFloat) for name in _SCALES)
