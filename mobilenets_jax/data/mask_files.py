"""What a mask file is: a PNG whose pixels are the indices of classes, in grey or with a palette of colours.

The value of a pixel is the number that the file stores. It is never that of a decoder that turns a palette into
colours, which most do, or stretches grey of 1, 2 or 4 bits to 0 .. 255.
"""

import numpy as np

from mobilenets_jax.data import image_files
from mobilenets_jax.data.image_files import ImageError

# PNG's colour types, and where the head of a file says the type and the bits of a channel.
GREY, PALETTE = 0, 3
BITS_BYTE, TYPE_BYTE = 24, 25

_COLOURS = {2: 'RGB', 4: 'grey with transparency', 6: 'RGB with transparency'}


def read_mask(encoded: bytes) -> np.ndarray:
    """The values of a mask file, int32 [H, W], from its bytes.

    Raises:
        ImageError: it is no PNG, damaged, too large, or holds colours.
    """
    if encoded and not encoded.startswith(image_files.PNG_SIGNATURE):
        raise ImageError(f'masks are PNG files; this one begins with {encoded[:12]!r}.')
    image = image_files.open_image(encoded)
    bits, colour_type = encoded[BITS_BYTE], encoded[TYPE_BYTE]
    if colour_type not in (GREY, PALETTE):
        kind = _COLOURS.get(colour_type, f'of type {colour_type}')
        raise ImageError(f'its pixels are colours ({kind}), where the indices of classes are asked for.')
    with image_files.reasons():
        image.load()
        values = np.asarray(image).astype(np.int32)
    if colour_type == GREY and bits in (2, 4):  # which PIL has stretched to 8
        values //= 255 // (2**bits - 1)
    return values
