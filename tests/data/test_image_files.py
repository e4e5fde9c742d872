"""What is an image, and its pixels: by PIL alone and by the TensorFlow pipeline, the same."""

import io
import re
import shutil
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from photos import photo
from PIL import Image, PngImagePlugin

from mobilenets_jax.data import Layout, create_dataset, image_files, preprocessing
from mobilenets_jax.data.host_pipeline import reason
from mobilenets_jax.data.image_files import ImageError
from mobilenets_jax.data.prepare import prepare

RAMP = np.arange(30 * 20, dtype=np.uint16).reshape(20, 30) * 100  # 16 bits, up to 59,900


def encode(image, **kwargs):
    buffer = io.BytesIO()
    image.save(buffer, **{'format': 'png'} | kwargs)
    return buffer.getvalue()


def rgb(seed=0):
    return photo(seed, (30, 20))


def rgba():
    pixels = np.dstack([np.asarray(rgb()), np.arange(600, dtype=np.uint8).reshape(20, 30)])
    return Image.fromarray(pixels, 'RGBA')


def palette():
    return rgb().quantize(16)


def grey16(channels):
    """A PNG of 16 bits a channel, and its high bytes as RGB."""
    pixels = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1], RAMP[::-1]][:channels], axis=-1)
    encoded = tf.io.encode_png(pixels).numpy()
    high = (pixels >> 8).astype(np.uint8)
    return encoded, high[..., :3] if channels > 2 else np.repeat(high[..., :1], 3, axis=-1)


def stored(image, **kwargs):
    """A file and PIL's pixels of what is in it."""
    encoded = encode(image, **kwargs)
    return encoded, np.asarray(Image.open(io.BytesIO(encoded)).convert('RGB'))


FILES = {
    'rgb': lambda: (encode(rgb()), np.asarray(rgb())),
    'rgba': lambda: (encode(rgba()), np.asarray(rgb())),  # what is transparent keeps its colour
    'grey': lambda: stored(rgb().convert('L')),
    'grey and alpha': lambda: stored(rgba().convert('LA')),
    'one bit': lambda: (encode(Image.fromarray(RAMP > 30000)), np.repeat((RAMP > 30000)[..., None] * 255, 3, axis=-1)),
    'palette': lambda: stored(palette()),
    'palette of 4 bits': lambda: stored(palette(), bits=4),
    'palette with a transparent colour': lambda: stored(palette(), transparency=3),
    'palette with alphas': lambda: stored(palette(), transparency=bytes(range(16))),
    'grey of 16 bits': lambda: grey16(1),
    'grey and alpha of 16 bits': lambda: grey16(2),
    'rgb of 16 bits': lambda: grey16(3),
    'rgba of 16 bits': lambda: grey16(4),
    'animated png': lambda: (encode(rgb(), save_all=True, append_images=[rgb(1)]), np.asarray(rgb())),
    'bytes behind the end': lambda: (encode(rgb()) + b'more', np.asarray(rgb())),
    'jpeg': lambda: stored(rgb(), format='jpeg', quality=90),
    'webp': lambda: (encode(rgb(), format='webp', lossless=True), np.asarray(rgb())),
    'lossy webp': lambda: stored(rgb(), format='webp'),
    'transparent webp': lambda: (encode(rgba(), format='webp', lossless=True, exact=True), np.asarray(rgb())),
    'bmp': lambda: (encode(rgb(), format='bmp'), np.asarray(rgb())),
    'gif': lambda: stored(rgb(), format='gif'),
    'animated gif': lambda: stored(rgb(), format='gif', save_all=True, append_images=[rgb(1)]),
    'tiff': lambda: (encode(rgb(), format='tiff', compression='tiff_lzw'), np.asarray(rgb())),
    'tiff of two pages': lambda: (
        encode(rgb(), format='tiff', save_all=True, append_images=[rgb(1)]),
        np.asarray(rgb()),
    ),
    'grey tiff of 16 bits': lambda: (
        encode(Image.fromarray(RAMP), format='tiff'),
        np.repeat((RAMP >> 8)[..., None], 3, axis=-1),
    ),
    'ppm': lambda: (encode(rgb(), format='ppm'), np.asarray(rgb())),
    'pgm of 16 bits': lambda: (
        b'P5 30 20 65535\n' + RAMP.astype('>u2').tobytes(),
        np.repeat((RAMP >> 8)[..., None], 3, axis=-1),
    ),
}


def decode_by_tensorflow(encoded):
    """What the pipeline makes of a file, run as the pipeline runs it."""
    images = tf.data.Dataset.from_tensors(encoded).map(lambda file: preprocessing.decode(file, **preprocessing.EXACT))
    return next(images.as_numpy_iterator())


@pytest.mark.parametrize('kind', FILES)
def test_pixels_are_the_same_with_and_without_tensorflow(kind):
    encoded, expected = FILES[kind]()
    np.testing.assert_array_equal(image_files.decode(encoded), expected)
    np.testing.assert_array_equal(decode_by_tensorflow(encoded), expected)
    np.testing.assert_array_equal(preprocessing.decode(tf.constant(encoded), **preprocessing.EXACT), expected)


@pytest.mark.parametrize('crop', ['inception', 'random_resized', 'resize'])
def test_training_crops_of_other_formats_are_those_of_a_png(crop):
    options = preprocessing.ImageOptions(16, train_crop=crop)
    views = [
        preprocessing.train_image(encode(rgb(), **kwargs), preprocessing.example_seed(0, 0, 0), options).numpy()
        for kwargs in ({'format': 'png'}, {'format': 'bmp'}, {'format': 'webp', 'lossless': True})
    ]
    assert np.array_equal(views[0], views[1]) and np.array_equal(views[0], views[2])


def with_text(kind):
    info = PngImagePlugin.PngInfo()
    add = info.add_itxt if kind == 'iTXt' else info.add_text
    add('prompt', 'x' * 5_000_000, zip=kind != 'tEXt')
    return encode(rgb(), pnginfo=info)


@pytest.mark.parametrize('kind', ['tEXt', 'zTXt', 'iTXt', 'iCCP', 'broken zTXt'])
def test_long_or_broken_text_in_a_png_is_no_hindrance(kind):
    encoded = with_text(kind) if kind.endswith('Xt') else encode(rgb(), icc_profile=b'x' * 5_000_000)
    if kind == 'broken zTXt':
        at = encoded.index(b'zTXt') + 20
        encoded = encoded[:at] + bytes([encoded[at] ^ 1]) + encoded[at + 1 :]
    np.testing.assert_array_equal(image_files.decode(encoded), np.asarray(rgb()))
    np.testing.assert_array_equal(decode_by_tensorflow(encoded), np.asarray(rgb()))


def png_of_size(width, height):
    """The head of a PNG, with nothing behind it but the end."""
    head = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    chunks = (head, b'IDAT', b'IEND')
    return image_files.PNG_SIGNATURE + b''.join(
        struct.pack('>I', len(chunk) - 4) + chunk + struct.pack('>I', zlib.crc32(chunk)) for chunk in chunks
    )


def resized(encoded, position, layout, *sides):
    """A file with this number of pixels in its head."""
    return encoded[:position] + struct.pack(layout, *sides) + encoded[position + struct.calcsize(layout) :]


def jpeg_of_size(width, height):
    encoded = encode(rgb(), format='jpeg')
    return resized(encoded, encoded.index(b'\xff\xc0') + 5, '>HH', height, width)


def tiff_of_size(width, height):
    """A TIFF whose first directory says so."""
    encoded = encode(rgb(), format='tiff')
    directory = int.from_bytes(encoded[4:8], 'little')
    for number in range(int.from_bytes(encoded[directory : directory + 2], 'little')):
        entry = directory + 2 + 12 * number
        tag = int.from_bytes(encoded[entry : entry + 2], 'little')
        if tag in (256, 257):  # width and height
            encoded = resized(encoded, entry + 2, '<HII', 4, 1, width if tag == 256 else height)
    return encoded


def flipped(encoded, marker, distance=12):
    at = encoded.index(marker) + distance
    return encoded[:at] + bytes([encoded[at] ^ 1]) + encoded[at + 1 :]


BROKEN = {
    'empty': (lambda: b'', 'Input is empty.'),
    'text': (lambda: b'<html></html>', "it is none of JPEG, PNG, .*; it begins with b'<html></html'"),
    'pdf': (lambda: encode(rgb(), format='pdf'), 'it is none of JPEG'),
    'icon': (lambda: encode(rgb(), format='ico'), 'it is none of JPEG'),
    'postscript': (lambda: encode(rgb(), format='eps'), "it is none of JPEG.*'%!PS-Adobe-3'"),
    'cut jpeg': (lambda: encode(rgb(), format='jpeg')[:-200], 'Invalid JPEG|jpeg::|Truncated'),
    'cut png': (lambda: encode(rgb())[:-50], 'Invalid PNG'),
    'png without its end': (lambda: encode(rgb())[:-12], 'Invalid PNG'),
    'flipped bit in a png': (lambda: flipped(encode(rgb()), b'IDAT', 40), 'Invalid PNG'),
    'flipped bit in the head of a png': (lambda: flipped(encode(rgb()), b'IHDR'), 'Invalid PNG'),
    'cut webp': (lambda: encode(rgb(), format='webp')[:-100], '.'),
    'cut gif': (lambda: encode(rgb(), format='gif')[:-300], 'truncated'),
    'cut bmp': (lambda: encode(rgb(), format='bmp')[:-300], 'truncated'),
    'cut tiff': (lambda: encode(rgb(), format='tiff')[:-300], '.'),
    'huge png': (lambda: png_of_size(20000, 10000), '^it has more than 178956970 pixels.$'),
    'huge jpeg': (lambda: jpeg_of_size(20000, 10000), '^it has more than 178956970 pixels.$'),
    'huge bmp': (
        lambda: resized(encode(rgb(), format='bmp'), 18, '<ii', 20000, 10000),
        '^it has more than 178956970 pixels.$',
    ),
    'huge gif': (
        lambda: resized(encode(rgb(), format='gif'), 6, '<HH', 60000, 60000),
        '^it has more than 178956970 pixels.$',
    ),
    'huge tiff': (lambda: tiff_of_size(60000, 60000), '^it has more than 178956970 pixels.$'),
    'huge ppm': (lambda: b'P6 60000 60000 255\n' + bytes(100), '^it has more than 178956970 pixels.$'),
    'tiff of real numbers': (
        lambda: encode(Image.fromarray(RAMP.astype(np.float32)), format='tiff'),
        'its pixels are 32-bit numbers, whose range is not known.',
    ),
}


@pytest.mark.parametrize('kind', BROKEN)
def test_what_is_no_image_has_a_reason_of_one_line(kind):
    make, message = BROKEN[kind]
    encoded = make()
    with pytest.raises(ImageError) as by_pil:
        image_files.decode(encoded)
    with pytest.raises(tf.errors.OpError) as by_tensorflow:
        decode_by_tensorflow(encoded)
    for line in (str(by_pil.value), reason(by_tensorflow.value)):
        assert re.search(message, line) and '\n' not in line and 'Error' not in line and '{{' not in line


def turned(orientation, **kwargs):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(rgb(), exif=exif, **kwargs)


@pytest.mark.parametrize('format_', ['jpeg', 'png', 'webp'])
def test_orientation_is_noticed_and_not_applied(format_):
    settings = {'format': format_} | ({'lossless': True} if format_ == 'webp' else {})
    for orientation, expected in ((0, False), (1, False), (3, True), (6, True), (8, True), (9, False)):
        assert image_files.has_orientation(turned(orientation, **settings)) == expected
    assert not image_files.has_orientation(encode(rgb(), **settings))
    assert not image_files.has_orientation(encode(rgb(), **settings)[:40])
    upright = image_files.decode(encode(rgb(), **settings))
    np.testing.assert_array_equal(image_files.decode(turned(6, **settings)), upright)
    np.testing.assert_array_equal(decode_by_tensorflow(turned(6, **settings)), upright)


def test_sources_see_the_same_pixels(tmp_path):
    """16-bit grey, alpha, palettes and WebP of a folder, from memory and through TensorFlow."""
    images = {
        'grey16.png': encode(Image.fromarray((np.indices((20, 20)).sum(0) * 1600).astype(np.uint16))),
        'rgba.png': encode(rgba().resize((20, 20))),
        'palette.png': encode(palette().resize((20, 20)), transparency=3),
        'webp.jpg': encode(rgb().resize((20, 20)), format='webp'),
    }
    for split in ('train', 'test'):
        for name in ('a', 'b'):
            (tmp_path / split / name).mkdir(parents=True)
            for file, encoded in images.items():
                (tmp_path / split / name / file).write_bytes(encoded)
    batches = {}
    for source, choices in (
        ('memory_folder', {}),
        ('image_folder', {'eval_crop': 'resize_crop', 'crop_fraction': 1.0}),
    ):
        dataset = create_dataset(source, directory=str(tmp_path), image_size=20, batch_size=8, seed=0, **choices)
        (batches[source],) = dataset.eval_batches(Layout(0, 1, 1))
    expected = [image_files.decode(images[file]) for file in sorted(images)] * 2
    np.testing.assert_array_equal(batches['memory_folder']['image'][0], expected)
    np.testing.assert_array_equal(batches['image_folder']['image'][0], expected)
    assert 60 < expected[0].mean() < 130  # Grey of 16 bits is not white.


def test_sources_that_read_all_files_count_the_orientations(tmp_path, capsys):
    for split, orientation in (('train', 6), ('test', 3)):
        for name in ('a', 'b'):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / 'turned.jpg').write_bytes(turned(orientation, format='jpeg'))
            rgb().save(tmp_path / split / name / 'upright.jpg')
    line = ' images have an EXIF orientation, which is not applied: the pixels are used as they are stored\n'
    prepare(str(tmp_path), str(tmp_path / 'x'), file_format='tfrecord', num_shards=1, report=print)
    assert capsys.readouterr().err == f'4{line}'
    shutil.rmtree(tmp_path / 'x')
    for file in tmp_path.glob('*/*/*.jpg'):
        file.write_bytes(encode(Image.open(file).crop((0, 0, 20, 20)), format='jpeg', exif=Image.open(file).getexif()))
    create_dataset('memory_folder', directory=str(tmp_path), image_size=20, batch_size=8, seed=0)
    assert capsys.readouterr().err == f'4{line}'
