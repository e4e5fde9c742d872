"""Whether a file computes what the network does: what is measured on images before a file is kept."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from mobilenets_jax.errors import RunError
from mobilenets_jax.export.lowering import OUTPUT, named

Outputs = np.ndarray | Mapping[str, np.ndarray]

# Of an output's largest number: rounding in float32 stays well below it, a wrong operation far above.
MAX_DIFFERENCE = 1e-4
# The least mean correlation with the logits of the float file. Networks that keep their accuracy in 8 bit have .9 and
# more; one that has lost a layer is near 0.
MIN_CORRELATION = 0.7


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How what two networks return for the same images agrees.

    Attributes:
        images: how many.
        difference: the largest one of two numbers, as a part of the largest number; of several outputs, of that which
            differs most.
        correlation: of the numbers of an image, the mean over the images; of several outputs that of the worst.
        same_class: of how many percent of the images the likeliest class is the same; or of their pixels, or anchors.
    """

    images: int
    difference: float
    correlation: float
    same_class: float


def agreement(expected: Iterable[Outputs], found: Iterable[Outputs]) -> Agreement:
    """Compares what two networks return, image by image.

    Args:
        expected: of each image its logits, float [..., classes], or several outputs by name, one of which has that of
            logits.
        found: the same of the other network.
    """
    differences, magnitudes, correlations, same = [], [], [], []
    for pair in zip(expected, found, strict=True):
        wanted, got = map(named, pair)
        differences.append([np.abs(got[name] - wanted[name]).max() for name in wanted])
        magnitudes.append([np.abs(wanted[name]).max() for name in wanted])
        correlations.append([np.corrcoef(wanted[name].ravel(), got[name].ravel())[0, 1] for name in wanted])
        same.append(np.mean(wanted[OUTPUT].argmax(axis=-1) == got[OUTPUT].argmax(axis=-1)))
    difference = (np.max(differences, axis=0) / np.max(magnitudes, axis=0)).max()
    correlation = np.mean(correlations, axis=0).min()
    return Agreement(len(same), float(difference), float(correlation), 100 * float(np.mean(same)))


def check_float(found: Agreement) -> None:
    """Raises `RunError` if a float file differs from the network by more than rounding."""
    if not found.difference <= MAX_DIFFERENCE:  # NaN is none
        raise RunError(
            f'the converted network differs from the original by {found.difference:.1e} of the largest logit on '
            f'{found.images} images, where {MAX_DIFFERENCE:g} is allowed; nothing is written.'
        )


def check_quantized(found: Agreement) -> None:
    """Raises `RunError` if a quantized file has lost what the network knows."""
    if not found.correlation >= MIN_CORRELATION:
        raise RunError(
            f'quantization breaks the network: its logits have a correlation of {found.correlation:.2f} with those of '
            f'the float network on {found.images} images, where {MIN_CORRELATION:g} is the least; nothing is written.'
        )
