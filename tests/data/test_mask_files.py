"""Mask files are read as the numbers that they store, by both decoders, and what is no mask is refused."""

import io
import pathlib
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mobilenets_jax.data import segmentation_preprocessing
from mobilenets_jax.data.class_sets import CLASS_SETS, IGNORED, UNKNOWN, MaskOptions, voc_colour
from mobilenets_jax.data.image_files import PNG_SIGNATURE, ImageError
from mobilenets_jax.data.mask_files import read_mask
from mobilenets_jax.errors import UserError

EVERY = np.arange(256, dtype=np.int16)  # each value its own train id


def decode_mask(encoded, table):
    """Compiled, as in a pipeline."""
    return tf.function(lambda content: segmentation_preprocessing.decode_mask(content, table))(tf.constant(encoded))


def png(values, bits, colour_type, palette=None):
    """A PNG of grey or indexed pixels, put together by hand: no library decides what its numbers mean."""
    packed = []
    for row in values:
        digits = ''.join(f'{value:0{bits}b}' for value in row)
        digits += '0' * (-len(digits) % 8)
        packed.append(b'\0' + bytes(int(digits[i : i + 8], 2) for i in range(0, len(digits), 8)))

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    head = struct.pack('>IIBBBBB', len(values[0]), len(values), bits, colour_type, 0, 0, 0)
    colours = [] if palette is None else [chunk(b'PLTE', bytes(palette))]
    parts = [chunk(b'IHDR', head), *colours, chunk(b'IDAT', zlib.compress(b''.join(packed))), chunk(b'IEND', b'')]
    return PNG_SIGNATURE + b''.join(parts)


def indexed(values):
    """An image with Pascal VOC's palette."""
    image = Image.fromarray(np.array(values, np.uint8))
    image.putpalette([component for index in range(256) for component in voc_colour(index)])
    return image


def saved(image, **fields):
    file = io.BytesIO()
    image.save(file, format='png', **fields)
    return file.getvalue()


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
@pytest.mark.parametrize('colour_type', [0, 3])
def test_numbers_of_any_depth_are_read_as_they_are_stored(bits, colour_type):
    values = np.random.default_rng(bits).integers(0, 2**bits, (5, 7))
    palette = [component for index in range(2**bits) for component in voc_colour(index)] if colour_type else None
    encoded = png(values.tolist(), bits, colour_type, palette)
    np.testing.assert_array_equal(read_mask(encoded), values)
    np.testing.assert_array_equal(decode_mask(encoded, EVERY), values)


def test_a_palette_with_transparency_is_an_index_too():
    values = np.random.default_rng(0).integers(0, 21, (6, 9), np.uint8)
    encoded = saved(indexed(values), transparency=3)
    assert Image.open(io.BytesIO(encoded)).convert('RGBA').getpixel((0, 0))[:3] == voc_colour(int(values[0, 0]))
    np.testing.assert_array_equal(read_mask(encoded), values)
    np.testing.assert_array_equal(decode_mask(encoded, EVERY), values)


def test_values_of_16_bits_are_not_cut_off():
    values = np.array([[0, 7, 26001]], np.uint16)  # an instance id of Cityscapes
    encoded = saved(Image.fromarray(values))
    np.testing.assert_array_equal(read_mask(encoded), values)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r'\[its mask has the value\] \[26001\]'):
        decode_mask(encoded, EVERY)


@pytest.mark.parametrize('draw', [lambda values: Image.fromarray(np.array(values, np.uint8)), indexed])
def test_decoding_maps_values_to_train_ids_and_refuses_unknown_ones(draw):
    table = CLASS_SETS['camvid'].train_ids()
    assert decode_mask(saved(draw([[0, 10, 11, 255]])), table).numpy().tolist() == [[0, 10, 255, 255]]
    encoded = saved(draw([[0, 12, 13]]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r'mask has the value\] \[13\] \[which is no class'):
        decode_mask(encoded, table)


@pytest.mark.parametrize(
    ('encoded', 'reason'),
    [
        (
            saved(Image.new('RGB', (4, 4))),
            r'its pixels are colours \(RGB\), where the indices of classes are asked for',
        ),
        (saved(Image.new('RGBA', (4, 4))), r'its pixels are colours \(RGB with transparency\)'),
        (saved(Image.new('LA', (4, 4))), r'its pixels are colours \(grey with transparency\)'),
        (b'\xff\xd8\xff\xe0 a JPEG', 'masks are PNG files; this one begins with'),
        (b'', 'Input is empty'),
        (saved(Image.new('L', (4, 4)))[:-12], 'Invalid PNG: its end is missing'),
    ],
    ids=['RGB', 'RGBA', 'LA', 'JPEG', 'empty', 'cut short'],
)
def test_what_is_no_mask_is_refused(encoded, reason):
    with pytest.raises(ImageError, match=reason):
        read_mask(encoded)
    if encoded and not encoded.startswith(b'\xff\xd8'):
        with pytest.raises(tf.errors.OpError):
            decode_mask(encoded, EVERY)


def test_class_sets_are_those_of_the_data_sets():
    """Counts, and values that mean something else: CamVid's void, Cityscapes' ids as its labels.py has them."""
    assert {name: len(classes.names) for name, classes in CLASS_SETS.items()} == {
        'camvid': 11, 'voc': 21, 'cityscapes': 19
    }  # fmt: skip
    for classes in CLASS_SETS.values():
        assert len(set(classes.palette)) == len(set(classes.names)) == len(classes.names)
    assert CLASS_SETS['camvid'].train_ids()[[0, 10, 11, 12, 255]].tolist() == [0, 10, IGNORED, UNKNOWN, IGNORED]
    ids = CLASS_SETS['cityscapes'].train_ids()
    evaluated = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert ids[evaluated].tolist() == list(range(19))
    assert set(ids[[value for value in range(34) if value not in evaluated]]) == {IGNORED}
    assert set(ids[34:255]) == {UNKNOWN}
    # https://host.robots.ox.ac.uk/pascal/VOC's colours of aeroplane, person and tvmonitor.
    palette = CLASS_SETS['voc'].palette
    assert [palette[index] for index in (0, 1, 15, 20)] == [(0, 0, 0), (128, 0, 0), (192, 128, 128), (0, 64, 128)]


def test_own_classes_values_and_colours():
    classes = MaskOptions(class_names=('road', 'car'), remap=((7, 0), (26, 1)), ignore_labels=(0,)).class_set()
    assert classes.train_ids()[[0, 1, 7, 26, 27, 255]].tolist() == [IGNORED, 1, 0, 1, UNKNOWN, IGNORED]
    assert classes.palette == ((0, 0, 0), (128, 0, 0))
    void = MaskOptions(classes='camvid', remap=((11, 1),)).class_set()
    assert void.train_ids()[11] == 1  # what the command line says is stronger than the class set
    own = MaskOptions(palette=tuple((index, 0, 0) for index in range(21))).class_set('voc')
    assert own.palette[20] == (20, 0, 0) and own.names == CLASS_SETS['voc'].names


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({}, 'data.classes (camvid, cityscapes, voc) or data.class_names must say what the masks hold.'),
        ({'classes': 'kitti'}, "data.classes='kitti' is unknown. Known: camvid, cityscapes, voc."),
        (
            {'classes': 'voc', 'class_names': ('a', 'b')},
            "data.classes='voc' names classes, as data.class_names does: set one.",
        ),
        ({'class_names': ('a', 'a')}, "data.class_names=('a', 'a') must differ from each other."),
        ({'class_names': ('a',)}, 'data.class_names=1 classes: must be 2 to 255.'),
        ({'classes': 'voc', 'palette': ((0, 0, 0),)}, 'data.palette=1 colours: there are 21 classes.'),
        (
            {'class_names': ('a', 'b'), 'palette': ((0, 0), (1, 1))},
            'data.palette=((0, 0), (1, 1)) must be triples in 0 .. 255.',
        ),
        ({'classes': 'voc', 'ignore_labels': (256,)}, 'data.ignore_labels=256 must be in 0 .. 255.'),
        ({'classes': 'voc', 'remap': ((3, 21),)}, 'data.remap=(3, 21) must be (value below 255, class in 0 .. 20).'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UserError) as error:
        MaskOptions(**options).class_set()
    assert str(error.value) == message


def test_no_mask_is_read_by_its_name(tmp_path):
    """A JPEG that is called PNG would give values that are not in the mask."""
    file = pathlib.Path(tmp_path / 'mask.png')
    Image.new('L', (8, 8), 3).save(file, format='jpeg')
    with pytest.raises(ImageError, match='masks are PNG files'):
        read_mask(file.read_bytes())
