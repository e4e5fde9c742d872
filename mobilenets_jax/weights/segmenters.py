"""Which segmentation networks a file may hold: those that were published, at the width of the file's first layer."""

import numpy as np

from mobilenets_jax.weights.candidate import Candidate, with_stem
from mobilenets_jax.weights.files import WeightFile
from mobilenets_jax.weights.layouts import LAYOUTS
from mobilenets_jax.weights.names.segmentation import STEM
from mobilenets_jax.weights.readers.tflite import LAST

WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)


def is_segmenter(file: WeightFile) -> bool:
    """Whether a PyTorch file has the layers of torchvision's LR-ASPP or DeepLabv3."""
    return _torchvision_logits(file) is not None


def candidates(file: WeightFile) -> list[Candidate]:
    """The networks to try.

    Args:
        file: with a segmentation network.
    """
    if file.contents.graph is not None:
        kernel = file.arrays[f'{LAST}/kernel']
        num_classes = kernel.shape[-1]
        head_fields = (('filters', kernel.shape[-2]), ('align_corners', file.contents.graph.align_corners))
        # Deeplab's own narrow networks do not round, those by slim's rule do.
        found = [
            Candidate(
                'tflite',
                'mobilenet_v2',
                width,
                'tf',
                'r_aspp',
                (('head_fields', head_fields), *rule),
                LAST,
                num_classes,
            )
            for width in WIDTHS
            for rule in ((), (('divisor', 1),))
        ]
        stem = file.arrays['000/kernel']
    else:
        logits = _torchvision_logits(file)
        head = 'aspp' if logits == 'classifier.4' else 'lr_aspp'
        networks = ('mobilenet_v3_large', 'mobilenet_v3_small')
        num_classes = len(file.arrays[f'{logits}.bias'])
        found = [Candidate('torchvision', name, 1.0, 'torchvision', head, (), logits, num_classes) for name in networks]
        stem = LAYOUTS[file.layout].kernel(file.arrays.get(f'{STEM}.weight', np.zeros((0, 3, 3, 3))), 'conv')
    return with_stem(found, stem)


def _torchvision_logits(file: WeightFile) -> str | None:
    """The layer of the logits of torchvision's LR-ASPP or DeepLabv3, depending on the file."""
    marks = {'classifier.high_classifier': 'classifier.cbr.0', 'classifier.4': 'classifier.0.convs.0.0'}
    found = [logits for logits, other in marks.items() if {f'{logits}.weight', f'{other}.weight'} <= set(file.arrays)]
    return found[0] if found else None
