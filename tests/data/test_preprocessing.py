"""The TensorFlow image functions against references in NumPy, colorsys and PIL."""

import colorsys
import io
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from photos import PHOTOS, photo, resize_crop_pil
from PIL import Image

from mobilenets_jax.data import preprocessing
from mobilenets_jax.data.options import ImageOptions

# Every 16th pixel of a training image, by colour distortion.
GOLDEN = {
    'none': [108, 130, 118, 108, 135, 125, 140, 132, 146, 110, 112, 135],
    'fast': [108, 127, 117, 109, 132, 123, 138, 131, 143, 110, 112, 132],
    'full': [120, 128, 100, 119, 135, 101, 133, 144, 151, 104, 135, 128],
}


def options(**changes):
    defaults = {
        'image_size': 32,
        'train_crop': 'inception',
        'min_area_fraction': 0.05,
        'random_flip': False,
        'color_distortion': 'none',
        'eval_crop': 'resize_crop',
        'crop_fraction': 0.875,
    }
    return ImageOptions(**defaults | changes)


def encode(image, **kwargs):
    buffer = io.BytesIO()
    image.save(buffer, **{'format': 'jpeg', 'quality': 95} | kwargs)
    return buffer.getvalue()


def resize_numpy(image, size):
    """Bilinear, output pixel i read at i * H / size, the border repeated."""
    for axis in range(2):
        position = np.arange(size) * image.shape[axis] / size
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, image.shape[axis] - 1)
        weight = (position - low).reshape([-1, 1, 1] if axis == 0 else [1, -1, 1])
        image = image.take(low, axis) * (1 - weight) + image.take(high, axis) * weight
    return image


@pytest.mark.parametrize('size', [(91, 60), (33, 200)])
def test_resize_bilinear_is_tensorflow_1s(size):
    image = np.asarray(photo(0, size))
    np.testing.assert_allclose(preprocessing.resize_bilinear(image, 48), resize_numpy(image, 48), atol=1e-2)


@pytest.mark.parametrize('size', [(91, 60), (33, 200), (20, 31), (68, 68)])
def test_image_converted_before_the_resize_has_the_same_bits(size, monkeypatch):
    """So that what is quicker may depend on the size of an image, and its pixels do not."""
    image = np.asarray(photo(0, size))
    results = []
    for max_converted in (0, 100):
        monkeypatch.setattr(preprocessing, 'MAX_CONVERTED', max_converted)
        results.append(preprocessing.resize_bilinear(image, 48).numpy())
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize('crop_fraction', [0.875, 0.8, 1.0])
def test_central_fraction(crop_fraction):
    image = np.asarray(photo(0, (81, 64)))
    top, left = {0.875: (4, 5), 0.8: (6, 8), 1.0: (0, 0)}[crop_fraction]
    expected = resize_numpy(image[top : 64 - top, left : 81 - left], 32)
    np.testing.assert_allclose(preprocessing.central_fraction(image, 32, crop_fraction), expected, atol=1e-2)
    by_tensorflow = resize_numpy(tf.image.central_crop(image, crop_fraction).numpy(), 32)
    assert np.array_equal(by_tensorflow, expected)


@pytest.mark.parametrize(('width', 'height'), [(500, 375), (375, 500), (333, 77), (40, 40), (257, 256), (20, 31)])
@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('eval_crop', ['resize_crop', 'rounded_resize_crop'])
def test_resize_crop_equals_pil(width, height, interpolation, eval_crop):
    image = photo(0, (width, height))
    choice = options(interpolation=interpolation, eval_crop=eval_crop)
    actual = preprocessing.eval_image(encode(image, format='png'), choice)
    expected = resize_crop_pil(image, 32, 0.875, interpolation, rounded=eval_crop == 'rounded_resize_crop')
    difference = np.abs(actual.numpy().astype(int) - expected)
    assert difference.max() <= 1 and difference.mean() < 0.02


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize('size', [(1000, 1), (1, 1000), (1000, 2), (2, 1001), (701, 60), (60, 700), (1, 1), (2, 1)])
@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('eval_crop', ['resize_crop', 'rounded_resize_crop'])
def test_resize_crop_of_thin_images_equals_pil(size, interpolation, eval_crop):
    """Of which only the window is computed."""
    image = noise(*size)
    choice = options(interpolation=interpolation, eval_crop=eval_crop)
    actual = preprocessing.eval_image(encode(image, format='png'), choice)
    expected = resize_crop_pil(image, 32, 0.875, interpolation, rounded=eval_crop == 'rounded_resize_crop')
    difference = np.abs(actual.numpy().astype(int) - expected)
    assert difference.max() <= 1 and difference.mean() < 0.03


@pytest.mark.parametrize('crop_fraction', [0.875, 1.0])
@pytest.mark.parametrize('is_wide', [True, False])
def test_line_of_pixels_takes_no_more_memory_than_its_crop(is_wide, crop_fraction):
    """A line of 400,000 pixels, resized as a whole, would take 300 GB."""
    line = np.zeros((1, 400_000, 3), np.uint8)
    line[:, :200_000, 0], line[:, 200_000:, 2] = 250, 90
    encoded = encode(Image.fromarray(line if is_wide else line.swapaxes(0, 1)), format='png')
    choice = options(image_size=224, crop_fraction=crop_fraction)
    view = preprocessing.eval_image(encoded, choice).numpy()
    view = view if is_wide else view.swapaxes(0, 1)
    red_part = 0.5 + (111.5 - np.arange(224)) / round(224 / crop_fraction)  # between the centres of two pixels
    expected = np.outer(red_part, [250, 0, 0]) + np.outer(1 - red_part, [0, 0, 90])
    assert np.abs(view - expected).max() < 1


@pytest.mark.parametrize('size', [(500, 1), (1, 500), (300, 2), (1, 1), (2, 1)])
@pytest.mark.parametrize('crop', ['inception', 'random_resized', 'resize'])
@pytest.mark.parametrize('format_', ['jpeg', 'png'])
def test_training_crops_of_thin_images_are_not_empty(size, crop, format_):
    encoded = tf.constant(encode(Image.new('RGB', size, (200, 100, 50)), format=format_))
    for index in range(20):
        seed = preprocessing.example_seed(0, 0, index)
        view = preprocessing.train_image(encoded, seed, options(train_crop=crop)).numpy()
        assert view.shape == (32, 32, 3) and np.abs(view.astype(int) - [200, 100, 50]).max() <= 3


@pytest.mark.parametrize('size', [(500, 1), (1, 500), (3, 2), (1, 1)])
def test_central_fraction_of_thin_images_is_not_empty(size):
    for crop_fraction in (0.875, 0.01):
        choice = options(eval_crop='central_fraction', crop_fraction=crop_fraction)
        view = preprocessing.eval_image(encode(Image.new('RGB', size, (200, 100, 50)), format='png'), choice).numpy()
        assert view.shape == (32, 32, 3) and (view == [200, 100, 50]).all()


@pytest.mark.parametrize('size', [(640, 480), (200, 300), (50, 50), (1000, 1)])
@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
def test_ordinary_photos_have_the_pixels_of_the_whole_image_resized(size, interpolation):
    """And a thin one those to a level, of float32's rounding."""
    image = np.asarray(noise(*size))
    short, (height, width) = 37, image.shape[:2]
    resized = [short * side // min(height, width) for side in (height, width)]
    whole = tf.constant(image)
    for sides in ((height, resized[1]), resized):
        whole = tf.image.resize(whole, sides, interpolation, antialias=True)
        whole = tf.round(tf.clip_by_value(whole, 0, 255))
    top, left = (round((side - 32) / 2) for side in resized)
    actual = preprocessing.resize_crop(tf.constant(image), 32, 0.875, interpolation).numpy()
    difference = np.abs(actual - whole[top : top + 32, left : left + 32].numpy())
    assert difference.max() <= (1 if 1 in size else 0)


@pytest.mark.skipif(not PHOTOS.exists(), reason=f'{PHOTOS} is not there')
@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
def test_evaluation_pixels_equal_pil_on_photos(interpolation):
    with zipfile.ZipFile(PHOTOS) as archive:
        for name in sorted(archive.namelist())[::50]:
            encoded = archive.read(name)
            expected = resize_crop_pil(Image.open(io.BytesIO(encoded)).convert('RGB'), 224, 0.875, interpolation)
            actual = preprocessing.eval_image(encoded, options(image_size=224, interpolation=interpolation)).numpy()
            difference = np.abs(actual.astype(int) - expected)
            assert difference.max() <= 2 and difference.mean() < 0.05, name


@pytest.mark.parametrize('format_', ['jpeg', 'png'])
def test_inception_crop_is_the_box_of_the_image(format_):
    """What is decoded is the drawn box of the whole image, resized to the image size."""
    encoded = encode(photo(0, (200, 150)), format=format_)
    whole = preprocessing.decode(encoded, **preprocessing.FAST).numpy()
    for index in range(10):
        seed = preprocessing.example_seed(1, 2, index)
        crop_seed = preprocessing.purpose_seed(seed, 'crop')
        begin, size = preprocessing.inception_box(tf.constant([150, 200, 3]), crop_seed, 0.05)
        (top, left, _), (height, width, _) = begin.numpy(), size.numpy()
        height, width = (150, 200) if height < 0 else (height, width)
        expected = resize_numpy(whole[top : top + height, left : left + width], 32)
        # Rounding, and the colours on the border of the crop, where a JPEG's decoder lacks their neighbours.
        np.testing.assert_allclose(preprocessing.train_image(encoded, seed, options()), expected, atol=0.7)


@pytest.mark.parametrize('min_area_fraction', [0.05, 0.5])
def test_inception_boxes_stay_in_their_ranges(min_area_fraction):
    seeds = [preprocessing.example_seed(0, 0, index) for index in range(300)]
    shape = tf.constant([400, 500, 3])
    boxes = [np.array(preprocessing.inception_box(shape, seed, min_area_fraction))[:, :2] for seed in seeds]
    begin, size = np.stack(boxes, axis=1)
    area, aspect = size.prod(axis=1) / (400 * 500), size[:, 1] / size[:, 0]
    assert (begin >= 0).all() and (begin + size <= [400, 500]).all()
    assert max(0.1, min_area_fraction) - 0.01 < area.min() and area.max() <= 1  # One tenth is MIN_OBJECT_COVERED.
    assert 0.74 < aspect.min() < 0.8 and 1.25 < aspect.max() < 1.34
    assert len({tuple(box) for box in boxes[0]}) == 2 and len(np.unique(begin, axis=0)) > 200


def resized_box(encoded, seed):
    """Top, left, height and width of a file's random resized crop."""
    crop_seed = preprocessing.purpose_seed(seed, 'crop')
    shape = preprocessing.decode(encoded).shape
    begin, size = preprocessing.random_resized_box(tf.constant(shape), crop_seed, 0.08)
    return *begin.numpy()[:2], *size.numpy()[:2]


def test_random_resized_crop_has_the_pixels_of_pil():
    """A made-up PNG and real photos: PIL's resize of the drawn box."""
    files = [encode(photo(0, (200, 150)), format='png')] * 3
    if PHOTOS.exists():
        with zipfile.ZipFile(PHOTOS) as archive:
            files += [archive.read(name) for name in sorted(archive.namelist())[1:1000:90]]
    for index, encoded in enumerate(files):
        seed = preprocessing.example_seed(1, 2, index)
        top, left, height, width = resized_box(encoded, seed)
        image = Image.open(io.BytesIO(encoded)).convert('RGB').crop((left, top, left + width, top + height))
        expected = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
        actual = preprocessing.train_image(
            encoded, seed, options(train_crop='random_resized', image_size=64, min_area_fraction=None)
        ).numpy()
        difference = np.abs(actual - expected)
        # All but equal: on the border of the crop a JPEG's decoder lacks the neighbours' colours.
        assert np.quantile(difference, 0.98) <= 1 and difference.mean() < 0.2, index


@pytest.mark.parametrize(('height', 'width'), [(20, 400), (400, 20)])
def test_image_too_long_for_any_box_is_cropped_in_the_centre(height, width):
    """As torchvision: the largest box of the nearest permitted aspect."""
    begin, size = preprocessing.random_resized_box(tf.constant([height, width, 3]), tf.constant([0, 1]), 1.0)
    long, short = max(height, width), min(height, width)
    expected = {short: 0, round(short * 4 / 3): (long - round(short * 4 / 3)) // 2}
    assert dict(zip(size.numpy()[:2].tolist(), begin.numpy()[:2].tolist(), strict=True)) == expected


def test_seeds_of_neighbours_and_purposes_draw_nothing_alike():
    """Uniform draws of 4 x 8 x 32 neighbouring seeds: all different, and not correlated along any of the axes."""
    epochs, indices = np.meshgrid(np.arange(8), np.arange(32), indexing='ij')
    seeds = [preprocessing.example_seed(1, *pair) for pair in zip(epochs.ravel(), indices.ravel(), strict=True)]
    purposes = preprocessing.PURPOSES
    draws = [tf.random.stateless_uniform([], preprocessing.purpose_seed(s, p)) for p in purposes for s in seeds]
    draws = np.reshape(draws, (len(purposes), 8, 32))
    assert len(np.unique(draws)) == draws.size
    assert abs(draws.mean() - 0.5) < 0.05
    centred = draws - 0.5
    for axis in range(3):
        products = centred.take(range(1, draws.shape[axis]), axis) * centred.take(range(draws.shape[axis] - 1), axis)
        assert abs(products.mean()) < 4 / 12 / products.size**0.5


def test_training_pixels_are_rounded_halves_up():
    image = np.arange(0, 255.01, 1 / 8, np.float32)
    np.testing.assert_array_equal(preprocessing.round_to_uint8(tf.constant(image)), np.floor(image + 0.5))


def test_half_of_the_images_are_flipped():
    encoded = encode(photo(0), format='png')
    plain, flipping = (options(train_crop='resize', random_flip=flip) for flip in (False, True))
    flipped = 0
    for index in range(200):
        seed = preprocessing.example_seed(0, 0, index)
        straight, result = (preprocessing.train_image(encoded, seed, choice).numpy() for choice in (plain, flipping))
        is_flipped = np.array_equal(result, straight[:, ::-1])
        assert is_flipped or np.array_equal(result, straight)
        flipped += is_flipped
    assert 75 < flipped < 125


def distort_numpy(image, name, seed):
    """One distortion of an image [n, 3] with an amount drawn from the seed, written out."""

    def draw(low, high):
        return tf.random.stateless_uniform([], seed, low, high).numpy()

    if name == 'brightness':
        return image + draw(-32 / 255, 32 / 255)
    if name == 'contrast':
        mean = image.mean(axis=0)
        return (image - mean) * draw(0.5, 1.5) + mean
    hsv = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in image])
    if name == 'saturation':
        hsv[:, 1] = np.clip(hsv[:, 1] * draw(0.5, 1.5), 0, 1)
    if name == 'hue':
        hsv[:, 0] = (hsv[:, 0] + draw(-0.2, 0.2)) % 1
    return np.array([colorsys.hsv_to_rgb(*pixel) for pixel in hsv])


@pytest.mark.parametrize('color_distortion', ['fast', 'full'])
def test_color_distortion_equals_reference(color_distortion):
    image = np.random.default_rng(0).uniform(0.3, 0.7, (16, 3)).astype(np.float32)
    orderings = preprocessing.COLOR_ORDERINGS[color_distortion]
    chosen = set()
    for index in range(20):
        seed = preprocessing.example_seed(0, 0, index)
        choice_seed, *seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 5))
        seed_of = dict(zip(['brightness', 'saturation', 'hue', 'contrast'], seeds, strict=True))
        choice = int(tf.random.stateless_uniform([], choice_seed, 0, 4, tf.int32))
        expected = image
        for name in orderings[choice]:
            expected = distort_numpy(expected, name, seed_of[name])
        actual = preprocessing.distort_color(image.reshape(4, 4, 3), seed, color_distortion)
        np.testing.assert_allclose(np.reshape(actual, (16, 3)), np.clip(expected, 0, 1), atol=1e-5)
        chosen.add(choice)
    assert chosen == {0, 1, 2, 3}


@pytest.mark.parametrize('color_distortion', ['none', 'fast', 'full'])
def test_training_image_is_golden(color_distortion):
    """The pixels must not change between releases: a resumed run would see other images."""
    seed = preprocessing.example_seed(3, 1, 4)
    encoded = encode(photo(0, (120, 100)), format='png')
    choice = options(random_flip=True, color_distortion=color_distortion)
    image = preprocessing.train_image(encoded, seed, choice).numpy()
    assert image.shape == (32, 32, 3) and image.dtype == np.uint8
    assert image[::16, ::16].ravel().tolist() == pytest.approx(GOLDEN[color_distortion], abs=1)
