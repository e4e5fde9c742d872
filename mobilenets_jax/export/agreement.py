"""Whether a file computes what the network does: what is measured on images before a file is kept."""

import dataclasses

import numpy as np

from mobilenets_jax.errors import RunError

# Of the largest logit: rounding in float32 stays well below it, a wrong operation far above.
MAX_DIFFERENCE = 1e-4
# The least mean correlation with the logits of the float file. Networks that keep their accuracy in 8 bit have .9 and
# more; one that has lost a layer is near 0.
MIN_CORRELATION = 0.7


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How two sets of logits of the same images agree.

    Attributes:
        images: how many.
        difference: the largest one of two logits, as a part of the largest logit.
        correlation: of the logits of an image, the mean over the images.
        same_class: of how many percent of the images the likeliest class is the same.
    """

    images: int
    difference: float
    correlation: float
    same_class: float


def agreement(expected: np.ndarray, found: np.ndarray) -> Agreement:
    """Compares logits, float [n, classes] each."""
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    correlations = [np.corrcoef(one, other)[0, 1] for one, other in zip(expected, found, strict=True)]
    same = np.mean(expected.argmax(axis=1) == found.argmax(axis=1))
    return Agreement(len(expected), float(difference), float(np.mean(correlations)), 100 * float(same))


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
