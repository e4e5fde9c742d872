"""What an image file is, for every source and command: `FORMATS`, by the bytes of the file and not by its name.

TensorFlow decodes JPEG and PNG (see `preprocessing.decode`); what it cannot decode, and all that is read without it, is
decoded here by PIL. Both give the same pixels: those of PIL's `convert('RGB')`, which drops transparency; of 16 bits
the high byte is kept; of several frames or pages the first. A JPEG's pixels may differ by a level.

An EXIF orientation is not applied, as in the pipelines of torchvision, timm and Keras in which the published accuracies
were measured. (A TIFF's orientation is: it belongs to the format, and PIL applies it for torchvision, too.)
"""

import contextlib
import io
import sys
import warnings
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

# PIL's names. Not all of its formats: one of its plugins starts a program to read the content of a file.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'GIF', 'TIFF', 'PPM')
# What image files are called: torchvision's list and two more.
SUFFIXES = ('.jpg', '.jpeg', '.jfif', '.png', '.webp', '.bmp', '.gif', '.tif', '.tiff', '.ppm', '.pgm')
MAX_PIXELS = 2 * 89_478_485  # PIL's limit, beyond which a small file may be made to fill the memory
PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'

_TOO_LARGE = f'it has more than {MAX_PIXELS} pixels.'
_SHOWN_BYTES = 12  # of a file that is no image
_UPRIGHT = 1  # the EXIF orientation of pixels that are stored upright

# A line for each of a million files, about what makes no difference to their pixels.
warnings.filterwarnings('ignore', module='PIL')


class ImageError(ValueError):
    """A file is no image that can be read: the message is one sentence that says why, without the file's name."""


@contextlib.contextmanager
def reasons():
    """Turns whatever PIL raises into an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(_TOO_LARGE) from error
    except Exception as error:  # A damaged file leads PIL's plugins to raise nearly anything.
        line = ' '.join(str(error).split()).rstrip('.')
        raise ImageError(f'{line or type(error).__name__}.') from error


@reasons()
def open_image(encoded: bytes) -> Image.Image:
    """The image in a file's bytes. Only the head has been read: its size is known, its pixels are not.

    Raises:
        ImageError: it is none of `FORMATS`, damaged or too large.
    """
    if not encoded:
        raise ImageError('Input is empty.')
    if encoded.startswith(PNG_SIGNATURE):
        encoded = _bare_png(encoded)
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError as error:
        head = encoded[:_SHOWN_BYTES]
        raise ImageError(f'it is none of {", ".join(FORMATS)}, or damaged; it begins with {head!r}.') from error
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(_TOO_LARGE)
    return image


@reasons()
def rgb_pixels(image: Image.Image) -> np.ndarray:
    """The pixels of an opened image, uint8 [H, W, 3].

    Raises:
        ImageError: it is damaged, or its pixels are numbers of no known range.
    """
    image.load()
    if image.mode.startswith('I;16') or (image.mode == 'I' and image.format in ('PNG', 'PPM')):
        grey = (np.asarray(image) >> 8).astype(np.uint8)  # PIL's own conversion would clip 0..65535 to 255.
        return np.repeat(grey[..., np.newaxis], 3, axis=-1)
    if image.mode in ('I', 'F'):
        raise ImageError('its pixels are 32-bit numbers, whose range is not known.')
    image.info.pop('transparency', None)  # It is always dropped; PIL would print a warning.
    return np.asarray(image.convert('RGB'))


def decode(encoded: bytes) -> np.ndarray:
    """The pixels of a file, uint8 [H, W, 3], from its bytes; `ImageError` as in `open_image` and `rgb_pixels`."""
    return rgb_pixels(open_image(encoded))


def has_orientation(encoded: bytes) -> bool:
    """Whether a file has an EXIF orientation other than upright, which no source and no command applies."""
    try:
        if encoded.startswith(PNG_SIGNATURE):
            exif = Image.Exif()
            exif.load(b''.join(data for kind, data, _ in _png_chunks(encoded) if kind == b'eXIf'))
        else:
            image = open_image(encoded)
            exif = {} if image.format == 'TIFF' else image.getexif()
    except Exception:  # EXIF that cannot be read says nothing.
        return False
    return exif.get(ExifTags.Base.Orientation, _UPRIGHT) in range(_UPRIGHT + 1, 9)


def report_orientations(count: int) -> None:
    """Says on standard error how many images have an EXIF orientation, if there are any."""
    if count:
        images = '1 image has' if count == 1 else f'{count} images have'
        print(
            f'{images} an EXIF orientation, which is not applied: the pixels are used as they are stored',
            file=sys.stderr,
        )


def _bare_png(encoded: bytes) -> bytes:
    """A PNG's critical chunks: PIL refuses a file for a long text or profile, which its pixels do not need.

    Raises:
        ImageError: a checksum is wrong or the end is missing, which PIL would not notice.
    """
    kept = [PNG_SIGNATURE]
    for kind, data, whole in _png_chunks(encoded):
        if kind[:1].isupper():  # critical
            if zlib.crc32(kind + data) != int.from_bytes(whole[-4:], 'big'):
                raise ImageError(f'Invalid PNG: the checksum of its chunk {kind.decode("latin-1")} is wrong.')
            kept.append(whole)
        if kind == b'IEND':
            return b''.join(kept)
    raise ImageError('Invalid PNG: its end is missing.')


def _png_chunks(encoded: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Kind, data and the whole of each chunk of a PNG; the last one may have been cut short."""
    position = len(PNG_SIGNATURE)
    while position < len(encoded):
        end = position + 12 + int.from_bytes(encoded[position : position + 4], 'big')  # length, kind, data, checksum
        yield encoded[position + 4 : position + 8], encoded[position + 8 : end - 4], encoded[position:end]
        position = end
