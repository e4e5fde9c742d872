"""The section `detection` of a config, checked: the head, the loss, and how detections are chosen."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mobilenets_jax.boxes.anchors import AnchorSpec, tf_anchors, torchvision_anchors
from mobilenets_jax.boxes.suppression import MOBILENEXT_NMS, TF_NMS, TORCHVISION_NMS, NmsSpec
from mobilenets_jax.config import ConfigView
from mobilenets_jax.errors import check, check_choice
from mobilenets_jax.heads import chosen_head
from mobilenets_jax.heads.ssdlite import SsdliteSpec
from mobilenets_jax.training.detection import CLASSIFICATIONS, LOSSES, DetectionLossSpec

HEAD_FIELDS = ('bn_momentum', 'class_bias')  # of `heads.ssdlite.SsdliteSpec`, by the same names
ANCHOR_FIELDS = {'min_scale': 0.2, 'max_scale': 0.95}  # what they are where nothing sets them
LOSS_FIELDS = tuple(field.name for field in dataclasses.fields(DetectionLossSpec))
NMS_FIELDS = tuple(field.name for field in dataclasses.fields(NmsSpec))

_ANCHORS = {'tf': tf_anchors, 'ssd': tf_anchors, 'torchvision': torchvision_anchors}
_LOSS_OF_HEAD = {'ssd': 'tf_v2'}  # all others have one of their own name
_NMS_OF_HEAD = {'torchvision': TORCHVISION_NMS, 'mobilenext': MOBILENEXT_NMS}
# The fields of a loss that some classifications alone use.
_CLASSIFICATIONS_OF = {'alpha': ('focal',), 'gamma': ('focal',), 'background_target': ('focal', 'sigmoid')}


def head_of(config: ConfigView) -> str:
    """The head of a config, a key of `heads.DETECTION_HEADS`."""
    return chosen_head(config.detection.head, config.model.name, config.model.convention)


def head_fields(config: ConfigView) -> dict[str, Any]:
    """What the head has otherwise, as `heads.create_detector` takes it; its scores are those that the loss trains."""
    set_fields = _fields_in_use(config.detection, HEAD_FIELDS)
    anchors = _anchors(config)
    scores = CLASSIFICATIONS[loss_spec(config).classification]
    return {**set_fields, 'scores': scores, **({} if anchors is None else {'anchors': anchors})}


def loss_spec(config: ConfigView) -> DetectionLossSpec:
    """The loss; raises `UserError` for a field that has no effect on it."""
    head = head_of(config)
    name = config.detection.loss or _LOSS_OF_HEAD.get(head, head)
    check_choice('detection.loss', name, LOSSES)
    set_fields = _fields_in_use(config.detection, LOSS_FIELDS)
    spec = dataclasses.replace(LOSSES[name], **set_fields)
    for field, users in _CLASSIFICATIONS_OF.items():
        used = field not in set_fields or spec.classification in users
        wanted = f'has no effect with detection.classification={spec.classification!r}'
        check(used, f'detection.{field}', set_fields.get(field), f'{wanted}; it needs {" or ".join(map(repr, users))}')
    return spec


def nms_spec(section: Mapping[str, Any], head: str) -> NmsSpec:
    """How detections are chosen.

    Args:
        section: `config.detection`, also as an older version saved it.
        head: a key of `heads.DETECTION_HEADS`, whose fields are taken where nothing sets them.
    """
    return dataclasses.replace(_NMS_OF_HEAD.get(head, TF_NMS), **_fields_in_use(section, NMS_FIELDS))


def decoding(head: SsdliteSpec) -> dict[str, Any]:
    """What an app needs, besides the anchors, to compute boxes and scores from a head's outputs, JSON-able."""
    fields = head.to_fields()
    return {name: fields[name] for name in ('coder', 'scores')}


def _fields_in_use(section: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The fields that are set."""
    fields = {name: section[name] for name in section if name in names}
    return {name: value for name, value in fields.items() if value is not None}


def _anchors(config: ConfigView) -> AnchorSpec | None:
    """Anchors of other scales; None: the head's own."""
    set_fields, head = _fields_in_use(config.detection, tuple(ANCHOR_FIELDS)), head_of(config)
    if not set_fields:
        return None
    for name, value in set_fields.items():
        check(head in _ANCHORS, f'detection.{name}', value, f'has no effect with the head {head!r}')
    scales = ANCHOR_FIELDS | set_fields
    least, most = scales['min_scale'], scales['max_scale']
    check(0 < least < most, 'detection.min_scale', least, f'must be between 0 and detection.max_scale={most}')
    check(most < 1, 'detection.max_scale', most, 'must be below 1, the whole image')
    return _ANCHORS[head](min_scale=least, max_scale=most)
