"""Automatic augmentation: every operation has PIL's pixels, and what is drawn has the right frequencies."""

import collections
import functools
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from photos import PHOTOS, photo
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from mobilenets_jax.data import auto_augment
from mobilenets_jax.data.options import ImageOptions

FILL = (128, 128, 128)
LEVELS = (0, 2, 5, 9, 10)


def enhance(kind):
    return lambda image, level, sign: kind(image).enhance(0.1 + 1.8 * level / 10)


def move(matrix):
    def transform(image, level, sign):
        amount = sign * level / 10
        return image.transform(image.size, Image.Transform.AFFINE, matrix(amount, *image.size), fillcolor=FILL)

    return transform


# What timm computes with nearest-neighbour interpolation: name -> f(image, level, sign).
REFERENCE = {
    'AutoContrast': lambda image, level, sign: ImageOps.autocontrast(image),
    'Equalize': lambda image, level, sign: ImageOps.equalize(image),
    'Invert': lambda image, level, sign: ImageOps.invert(image),
    'Rotate': lambda image, level, sign: image.rotate(sign * level * 3, fillcolor=FILL),
    'Posterize': lambda image, level, sign: image.point([i & -(1 << 8 - int(level / 10 * 4)) for i in range(256)] * 3),
    'Solarize': lambda image, level, sign: ImageOps.solarize(image, int(level / 10 * 256)),
    'SolarizeAdd': lambda image, level, sign: image.point(
        [min(255, i + int(level / 10 * 110)) if i < 128 else i for i in range(256)] * 3
    ),
    'Color': enhance(ImageEnhance.Color),
    'Contrast': enhance(ImageEnhance.Contrast),
    'Brightness': enhance(ImageEnhance.Brightness),
    'Sharpness': enhance(ImageEnhance.Sharpness),
    'ShearX': move(lambda amount, width, height: (1, 0.3 * amount, 0, 0, 1, 0)),
    'ShearY': move(lambda amount, width, height: (1, 0, 0, 0.3 * amount, 1, 0)),
    'TranslateX': move(lambda amount, width, height: (1, 0, 0.45 * amount * width, 0, 1, 0)),
    'TranslateY': move(lambda amount, width, height: (1, 0, 0, 0, 1, 0.45 * amount * height)),
}


@functools.cache
def images():
    """A made-up image, one of a single colour, one of few colours, and two real photos where they are there."""
    flat = Image.new('RGB', (41, 33), (10, 200, 77))
    few = photo(2, (51, 41)).point(lambda value: value // 64 * 64)
    found = [photo(1, (61, 47)), flat, few]
    if PHOTOS.exists():
        with zipfile.ZipFile(PHOTOS) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith('.JPEG'))
            found += [Image.open(archive.open(name)).convert('RGB') for name in names[100:1000:500]]
    return found


@pytest.mark.parametrize('name', REFERENCE)
def test_operation_has_the_pixels_of_pil(name):
    assert set(REFERENCE) == set(auto_augment.OPERATIONS)
    operation = tf.function(auto_augment.OPERATIONS[name], reduce_retracing=True)
    for image in images():
        for level in LEVELS:
            for sign in (-1, 1):
                expected = np.asarray(REFERENCE[name](image, level, sign)).astype(int)
                strength = tf.constant(level / 10, tf.float64)
                actual = operation(tf.constant(np.asarray(image)), strength, sign * strength).numpy().astype(int)
                wrong = np.abs(actual - expected).max(axis=-1)
                if name in ('Rotate', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY'):
                    assert (wrong > 0).mean() < 0.005, (image.size, level, sign)  # where two pixels are as near
                else:
                    assert wrong.max() <= (1 if name in ('Color', 'Contrast', 'Brightness', 'Sharpness') else 0)
                    assert (wrong > 0).mean() < 0.02


def test_smoothing_leaves_the_border():
    image = photo(3, (20, 10))
    smooth = auto_augment.sharpness(tf.constant(np.asarray(image)), tf.constant(0.0))
    assert np.array_equal(smooth, np.asarray(image.filter(ImageFilter.SMOOTH)))


@functools.cache
def drawn(kind, count=600, **choices):
    """How often each operation was applied, alone or with another, in images distorted by `kind`."""
    options = ImageOptions(8, auto_augment=kind, **choices)
    names, applied = list(auto_augment.OPERATIONS), []
    # In the place of each operation one that appends its number, strength and sign to a list of two.
    original = auto_augment.OPERATIONS.copy()
    try:
        for number, name in enumerate(names):
            auto_augment.OPERATIONS[name] = lambda image, strength, signed, number=number: tf.concat(
                [image[1:], [[number + 1, strength, tf.sign(signed)]]], axis=0
            )
        seeds = tf.constant([[0, i] for i in range(count)])
        start = tf.zeros([2, 3], tf.float64)
        augment = tf.function(functools.partial(auto_augment.auto_augment, options=options))
        rows = np.stack([augment(start, seed) for seed in seeds])
    finally:
        auto_augment.OPERATIONS.update(original)
    for image in rows:
        applied.append([(names[int(row[0]) - 1], row[1], row[2]) for row in image if row[0]])
    return applied


def test_policy_v0_draws_its_rows_with_their_probabilities():
    applied = drawn('autoaugment_v0')
    counts = collections.Counter(name for row in applied for name, _, _ in row)
    expected = collections.Counter()
    for policy in auto_augment.POLICY_V0:
        for name, probability, _ in policy:
            expected[name] += probability / 25 * len(applied)
    assert set(counts) == {name for name, value in expected.items() if value}
    for name, value in expected.items():
        assert abs(counts[name] - value) < 5 * value**0.5 + 1, name
    strengths = {round(float(strength), 3) for row in applied for name, strength, _ in row if name == 'ShearY'}
    assert strengths == {0.0, 0.3, 0.4, 0.7}


def test_randaugment_draws_every_operation_half_of_the_time():
    applied = drawn('randaugment', randaugment_layers=2)
    counts = collections.Counter(name for row in applied for name, _, _ in row)
    assert set(counts) == set(auto_augment.OPERATIONS)
    assert abs(sum(counts.values()) - 600) < 5 * 300**0.5
    assert max(counts.values()) < 2.5 * min(counts.values())
    strengths = np.array([strength for row in applied for _, strength, _ in row])
    assert abs(np.median(strengths) - 0.9) < 0.01 and strengths.max() == 1 and 0.7 < strengths.min() < 0.85
    signs = [sign for row in applied for _, _, sign in row]
    assert 0.4 < np.mean(np.array(signs) > 0) < 0.6


def test_magnitude_without_deviation_is_the_same_everywhere():
    applied = drawn('randaugment', 50, randaugment_magnitude=4.0, randaugment_magnitude_std=0.0, randaugment_layers=1)
    assert {round(float(strength), 6) for row in applied for _, strength, _ in row} == {0.4}


# Of torchvision's TrivialAugmentWide: an operation's least and largest magnitude, and whether it has a sign.
WIDE = {
    'Identity': None, 'ShearX': (0, 0.99, True), 'ShearY': (0, 0.99, True), 'TranslateX': (0, 32, True),
    'TranslateY': (0, 32, True), 'Rotate': (0, 135, True), 'Brightness': (0, 0.99, True), 'Color': (0, 0.99, True),
    'Contrast': (0, 0.99, True), 'Sharpness': (0, 0.99, True), 'Posterize': (2, 8, False), 'Solarize': (0, 255, False),
    'AutoContrast': None, 'Equalize': None,
}  # fmt: skip
# The same by PIL, at a magnitude.
WIDE_REFERENCE = {
    'ShearX': lambda image, m: image.transform(image.size, Image.Transform.AFFINE, (1, m, 0, 0, 1, 0)),
    'ShearY': lambda image, m: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 0, m, 1, 0)),
    'TranslateX': lambda image, m: image.transform(image.size, Image.Transform.AFFINE, (1, 0, -int(m), 0, 1, 0)),
    'TranslateY': lambda image, m: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, -int(m))),
    'Rotate': lambda image, m: image.rotate(m),
    'Brightness': lambda image, m: ImageEnhance.Brightness(image).enhance(1 + m),
    'Color': lambda image, m: ImageEnhance.Color(image).enhance(1 + m),
    'Posterize': lambda image, m: ImageOps.posterize(image, int(m)),
    'Solarize': lambda image, m: ImageOps.solarize(image, m),
    'Equalize': lambda image, m: ImageOps.equalize(image),
}


@pytest.mark.parametrize('name', WIDE_REFERENCE)
def test_operation_of_trivialaugment_has_the_pixels_of_pil(name):
    magnitudes, signed, function = auto_augment.WIDE_OPERATIONS[name]
    run, image = tf.function(function, reduce_retracing=True), photo(1, (61, 47))
    for number in (0, 7, 16, 30):
        for sign in (1, -1) if signed else (1,):
            magnitude = sign * magnitudes[number]
            expected = np.asarray(WIDE_REFERENCE[name](image, magnitude)).astype(int)
            wrong = np.abs(run(tf.constant(np.asarray(image)), tf.constant(magnitude)).numpy() - expected).max(axis=-1)
            near = 0.005 if name in ('Rotate', 'ShearX', 'ShearY') else 0  # two pixels are as near
            assert (wrong > (1 if name in ('Brightness', 'Color') else 0)).mean() <= near, (number, sign)


def test_trivialaugment_draws_all_operations_and_magnitudes_alike(monkeypatch):
    """One operation an image; 14 of them, 31 magnitudes, and a sign where there is one."""
    operations = {
        name: choice._replace(
            function=lambda image, magnitude, number=number: tf.stack([tf.constant(number, tf.float64), magnitude])
        )
        for number, (name, choice) in enumerate(auto_augment.WIDE_OPERATIONS.items())
    }
    monkeypatch.setattr(auto_augment, 'WIDE_OPERATIONS', operations)
    options, count = ImageOptions(8, auto_augment='trivialaugment_wide'), 14 * 200
    augment = tf.function(functools.partial(auto_augment.auto_augment, options=options))
    rows = tf.map_fn(lambda seed: augment(tf.zeros(2, tf.float64), seed), tf.constant([[0, i] for i in range(count)]),
                     fn_output_signature=tf.float64).numpy()  # fmt: skip
    assert list(operations) == list(WIDE)
    for number, (name, space) in enumerate(WIDE.items()):
        magnitudes = rows[rows[:, 0] == number, 1]
        assert abs(len(magnitudes) - 200) < 5 * 200**0.5, name
        if space is None:
            assert set(magnitudes) == {0}
            continue
        least, most, signed = space
        assert np.abs(magnitudes).min() == least and np.abs(magnitudes).max() == most
        assert abs((magnitudes < 0).mean() - 0.5 * signed) < 0.2
        assert len(set(np.abs(magnitudes))) >= (6 if name == 'Posterize' else 29)
