"""Views of images and their boxes: both move together, and are drawn as the published augmentations draw them."""

import io

import numpy as np
import pytest
import tensorflow as tf
from photos import photo
from PIL import Image

from mobilenets_jax.data import detection_preprocessing as preprocessing
from mobilenets_jax.data.detection_format import DetectionFormat
from mobilenets_jax.data.detection_options import DETECTION_AUGMENTATIONS, DetectionOptions
from mobilenets_jax.data.preprocessing import example_seed, pad_with

SIZE = (120, 160)  # height, width
# Labels 0 .. 3, far apart.
BOXES = np.array([[10, 10, 50, 60], [60, 20, 110, 70], [5, 100, 45, 150], [70, 90, 100, 140]], np.float32)
COLOURS = np.array([[250, 30, 30], [30, 250, 30], [30, 30, 250], [240, 240, 40]], np.uint8)


def painted():
    """An image with a rectangle of its own colour where each box is, as a PNG."""
    image = np.full((*SIZE, 3), 90, np.uint8)
    for (top, left, bottom, right), colour in zip(BOXES.astype(int), COLOURS, strict=True):
        image[top:bottom, left:right] = colour
    return png(image)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'png')
    return file.getvalue()


def parts(boxes):
    return (np.asarray(boxes, np.float32) / np.tile(SIZE, 2)).astype(np.float32)


def options(augmentation, image_size=SIZE, **fields):
    return DetectionOptions(image_size, 8, 0, augmentation=augmentation, **fields)


def mapped(function, count, first=0):
    """What a function of an example's seed gives for the first examples."""
    examples = tf.data.Dataset.range(first, first + count).map(lambda index: function(example_seed(0, 1, index)))
    return list(examples.as_numpy_iterator())


def views(chosen, count=40, encoded=None, boxes=BOXES):
    target = {'boxes': tf.constant(parts(boxes).reshape(-1, 4)), 'labels': tf.range(len(boxes))}
    encoded = encoded or painted()
    return mapped(lambda seed: preprocessing.train_view(tf.constant(encoded), target, seed, chosen), count)


@pytest.mark.parametrize('augmentation', DETECTION_AUGMENTATIONS)
@pytest.mark.parametrize('image_size', [SIZE, (200, 150)])
def test_image_and_boxes_move_together(augmentation, image_size):
    """A box holds the colour of its label and nothing else does, to within a pixel or two of its sides."""
    counts, seen = np.zeros(4, int), set()
    for image, boxes, labels in views(options(augmentation, image_size)):
        counts += np.bincount(labels, minlength=4)
        seen.add(image.tobytes())
        near = np.abs(image[:, :, None].astype(int) - COLOURS).max(-1) < 40  # [h, w, 4]
        for box, label in zip(boxes * np.tile(image_size, 2), labels, strict=True):
            rows, columns = np.flatnonzero(near[..., label].any(1)), np.flatnonzero(near[..., label].any(0))
            assert box.min() >= -1e-3 and (box[2:] <= np.array(image_size) + 1e-3).all()
            if (box[2:] - box[:2]).min() < 6:
                continue
            found = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
            assert np.abs(found - box).max() < 4, (augmentation, found, box)
            inner = near[int(box[0]) + 4 : int(box[2]) - 4, int(box[1]) + 4 : int(box[3]) - 4, label]
            assert inner.all()
    assert counts.min() >= 15
    assert len(seen) == 2 if augmentation == 'none' else len(seen) > 20


def test_half_of_the_images_are_mirrored_with_their_boxes():
    plain = views(options('none', random_flip=False), 1)[0]
    mirrored = 0
    for image, boxes, labels in views(options('none'), 200):
        if np.array_equal(image, plain[0]):
            np.testing.assert_array_equal(boxes, plain[1])
        else:
            np.testing.assert_array_equal(image, plain[0][:, ::-1])
            np.testing.assert_allclose(boxes[:, [1, 3]], 1 - plain[1][:, [3, 1]], atol=1e-6)
            np.testing.assert_array_equal(boxes[:, [0, 2]], plain[1][:, [0, 2]])
            mirrored += 1
        np.testing.assert_array_equal(labels, range(4))
    assert 75 <= mirrored <= 125


@pytest.mark.parametrize('color_distortion', ['photometric', 'mobilenext'])
def test_every_augmentation_may_distort_colours(color_distortion):
    """What is around the image keeps the mean colour."""
    seen = 0
    for image, *_ in views(options('mobilenext', color_distortion=color_distortion, normalization='unit')):
        seen += (image == 0).all(-1).mean() > 0.3
    assert seen > 8


def test_boxes_in_a_crop_by_hand():
    boxes = parts([[10, 20, 50, 60], [0, 0, 20, 30], [30, 30, 40, 30.9 + 10], [100, 100, 110, 110], [60, 10, 70, 20.5]])
    cut, labels = preprocessing.cut(tf.constant(boxes), tf.range(5), tf.constant(SIZE), tf.constant([10, 20, 60, 40]))
    # The crop is rows 10 .. 70 and columns 20 .. 60; of the last box half a column is in it, which is too thin.
    np.testing.assert_allclose(
        cut, [[0, 0, 40 / 60, 1], [0, 0, 10 / 60, 0.25], [20 / 60, 0.25, 0.5, 20.9 / 40]], atol=1e-5
    )
    assert labels.numpy().tolist() == [0, 1, 2]


def test_slivers_are_dropped():
    """Whatever is cropped, no box is thinner than a pixel of the file's image."""
    boxes = np.stack([[0, left, 120, left + 3] for left in range(0, 156, 4)]).astype(np.float32)
    thin = 0
    for augmentation in ('tf', 'torchvision', 'mobilenext'):
        for seed in range(30):
            window, stays = preprocessing.draw_window(
                tf.constant(SIZE), tf.constant(parts(boxes)), example_seed(0, 0, seed), augmentation
            )
            found, _ = preprocessing.cut(parts(boxes)[stays], tf.range(stays.numpy().sum()), tf.constant(SIZE), window)
            sides = (found[:, 2:] - found[:, :2]).numpy() * window.numpy()[2:]
            assert (sides >= 0.999).all()
            thin += (sides < 2.5).sum()
    assert thin  # of which some were cut


def test_ssd_random_crop_draws_one_of_seven_options(monkeypatch):
    """The op of TensorFlow is asked as `ssd_random_crop` asks it: each least cover as often as the others."""
    asked, real = [], tf.image.stateless_sample_distorted_bounding_box

    def record(size, bounding_boxes, **arguments):
        asked.append((float(arguments['min_object_covered']), arguments, bounding_boxes.shape))
        return real(size, bounding_boxes, **arguments)

    monkeypatch.setattr(tf.image, 'stateless_sample_distorted_bounding_box', record)
    for index in range(350):
        preprocessing.tf_crop(tf.constant(SIZE), tf.constant(parts(BOXES)), example_seed(0, 0, index))
    values, counts = np.unique([round(covered, 3) for covered, *_ in asked], return_counts=True)
    assert values.tolist() == [0, 0.1, 0.3, 0.5, 0.7, 0.9, 1]
    assert ((counts - 50) ** 2 / 50).sum() < 22.5  # chi-squared with six degrees of freedom, 0.1 %
    _, arguments, shape = asked[0]
    assert shape == (4, 1, 4)
    assert {name: arguments[name] for name in ('aspect_ratio_range', 'area_range', 'max_attempts')} == {
        'aspect_ratio_range': (0.5, 2.0), 'area_range': (0.1, 1.0), 'max_attempts': 100
    }  # fmt: skip
    assert arguments['use_image_if_no_bounding_boxes']


def test_ssd_random_crop_takes_the_whole_image_at_times():
    """15 % of the time, where a crop that fits is easily found."""
    small = tf.constant(parts([[55, 75, 60, 80]]))
    drawn = mapped(lambda seed: preprocessing.tf_crop(tf.constant(SIZE), small, seed), 600)
    windows = np.array([window for window, _ in drawn])
    whole = (windows == [0, 0, *SIZE]).all(1)
    assert abs(whole.mean() - 0.15) < 3.3 * np.sqrt(0.15 * 0.85 / 600)
    crops = windows[~whole]
    aspect, area = crops[:, 3] / crops[:, 2], crops[:, 2] * crops[:, 3] / np.prod(SIZE)
    assert 0.47 < aspect.min() < 0.6 and 1.8 < aspect.max() < 2.1
    assert 0.09 < area.min() < 0.15 and 0.9 < area.max() <= 1


def test_ssd_random_crop_keeps_what_it_covers_enough():
    """Of the box that covers the image, at least as much as its option asks for; so it always stays."""
    boxes = tf.constant(parts([[0, 0, *SIZE], [0, 0, 30, 40]]))
    drawn = mapped(lambda seed: preprocessing.tf_crop(tf.constant(SIZE), boxes, seed), 300)
    partly = 0
    for window, stays in drawn:
        covered = [
            max(0, min(window[0] + window[2], box[2]) - max(window[0], box[0]))
            * max(0, min(window[1] + window[3], box[3]) - max(window[1], box[1]))
            / np.prod(box[2:])
            for box in ([0, 0, *SIZE], [0, 0, 30, 40])
        ]
        assert stays[0] or covered[1] > covered[0]
        if covered[1] >= 1:
            assert stays[1]
        partly += 0 < covered[1] < 1 and not stays[1]
    assert partly  # seen in part, but not enough of it


@pytest.mark.parametrize(('name', 'attempts', 'count'), [('TORCHVISION', 40, 7), ('MOBILENEXT', 50, 6)])
def test_crops_by_iou_fit(name, attempts, count):
    """Every crop that is drawn holds the centre of a box, has its shape, and overlaps by one of the options."""
    crop = getattr(preprocessing, name)
    assert (crop.attempts, len(crop.options)) == (attempts, count)
    drawn = mapped(lambda seed: preprocessing.iou_crop(tf.constant(SIZE), tf.constant(BOXES), seed, crop), 200)
    whole, ious = 0, []
    for window, stays in drawn:
        begin, end = window[:2], window[:2] + window[2:]
        if window.tolist() == [0, 0, *SIZE]:
            assert stays.all()
            whole += 1
            continue
        assert (begin >= 0).all() and (end <= SIZE).all() and (window[2:] >= np.floor(0.3 * np.array(SIZE))).all()
        assert 0.5 <= window[3] / window[2] <= 2
        centres = (BOXES[:, :2] + BOXES[:, 2:]) / 2
        np.testing.assert_array_equal(stays, ((centres > begin) & (centres < end)).all(1))
        assert stays.any()
        common = np.prod(np.maximum(np.minimum(BOXES[:, 2:], end) - np.maximum(BOXES[:, :2], begin), 0), axis=1)
        ious.append((common / (np.prod(BOXES[:, 2:] - BOXES[:, :2], 1) + np.prod(window[2:]) - common)).max())
    # No box overlaps by 0.7 or 0.9 with a crop of its shape often; those options end in another, or the whole image.
    assert 1 / count * 200 * 0.6 < whole < 120
    assert min(ious) < 0.15 and max(ious) > 0.5


def loop(windows, boxes, least, centred):
    """What torchvision and MobileNeXt ask of a crop, box by box."""
    fits, inside = [], []
    for top, left, height, width in windows:
        row = [left < (a + c) / 2 < left + width and top < (b + d) / 2 < top + height for b, a, d, c in boxes]
        best = -1
        for within, (b, a, d, c) in zip(row, boxes, strict=True):
            if within or not centred:
                common = max(0, min(d, top + height) - max(b, top)) * max(0, min(c, left + width) - max(a, left))
                best = max(best, common / ((d - b) * (c - a) + height * width - common))
        fits.append(height > 0 and 0.5 <= width / height <= 2 and any(row) and best >= least)
        inside.append(row)
    return fits, inside


@pytest.mark.parametrize('centred', [True, False])
def test_which_crops_fit_is_what_a_loop_says(centred):
    generator = np.random.default_rng(0)
    taken = 0
    for _ in range(60):
        corners = np.sort(generator.uniform(0, SIZE, (3, 2, 2)).transpose(0, 2, 1), axis=2)
        boxes = np.stack([corners[..., 0], corners[..., 1]], 1).reshape(3, 4).astype(np.float32)
        windows = preprocessing.draw_crops(tf.constant(SIZE), tf.constant(generator.random((20, 4)), tf.float32))
        least = generator.choice([0.0, 0.1, 0.3, 0.5])
        found = preprocessing.fitting_crops(windows, tf.constant(boxes), tf.constant(least, tf.float32), centred)
        expected = loop(windows.numpy().tolist(), boxes.tolist(), least, centred)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        taken += sum(expected[0])
    assert 100 < taken < 1100


def shown(image, window, chosen):
    """The pixels of a window."""
    inside, paddings = preprocessing.take_window(tf.constant(image), tf.constant(window))
    return pad_with(inside, paddings, chosen.common().mean_pixel).numpy()


def test_mobilenext_puts_the_image_on_a_canvas():
    """Half of the time; up to four times as wide and high, at any place; what is around it has the mean colour."""
    canvases = np.array(mapped(lambda seed: preprocessing.expand(tf.constant(SIZE), seed), 400))
    expanded = canvases[(canvases != [0, 0, *SIZE]).any(1)]
    assert abs(len(expanded) / 400 - 0.5) < 0.08
    ratios = expanded[:, 2:] / np.array(SIZE)
    assert 1 <= ratios.min() < 1.1 and 3.8 < ratios.max() <= 4
    np.testing.assert_allclose(ratios[:, 0], ratios[:, 1], atol=0.02)
    places = -expanded[:, :2] / np.maximum(expanded[:, 2:] - SIZE, 1)
    assert places.min() >= 0 and places.max() <= 1 and np.abs(places.mean(0) - 0.5).max() < 0.08
    image = np.asarray(photo(0, size=SIZE[::-1]))
    chosen = options('mobilenext', normalization='imagenet')
    found = shown(image, [-3, -5, 130, 170], chosen)
    np.testing.assert_array_equal(found[3:123, 5:165], image)
    outside = np.ones((130, 170), bool)
    outside[3:123, 5:165] = False
    assert (found[outside] == [124, 116, 104]).all()


def test_a_window_of_a_canvas_has_the_image_at_its_place():
    image = np.asarray(photo(0, size=SIZE[::-1]))
    chosen = options('mobilenext')
    canvas = shown(image, [-40, -30, 300, 400], chosen)
    for window in ([-40, -30, 100, 90], [20, 30, 50, 60], [100, 100, 150, 200], [130, -30, 50, 60]):
        top, left = np.array(window[:2]) + [40, 30]
        found = shown(image, window, chosen)
        np.testing.assert_array_equal(found, canvas[top : top + window[2], left : left + window[3]])


def test_mobilenext_colours_of_grey():
    """Saturation, hue and the order of channels leave grey as it is; brightness and contrast are half of the time."""
    grey = tf.fill([2, 2, 3], tf.constant(100, tf.uint8))
    levels = np.array(mapped(lambda seed: preprocessing.distort_color(grey, seed, shuffled=True), 400))
    assert (np.ptp(levels.reshape(400, -1), axis=1) == 0).all()
    levels = levels[:, 0, 0, 0].astype(int)
    assert abs((levels == 100).mean() - 0.25) < 0.08
    assert 34 <= levels.min() < 50 and 170 < levels.max() <= 198
    # Contrast alone multiplies: 50 .. 150; so do brighter levels, of which none is more than 1.5 x 132.
    assert abs(np.median(levels) - 100) < 5


def test_mobilenext_colours_of_red():
    """An order of channels is drawn half of the time, of which 2 of 3 move red elsewhere; hue turns by 18 degrees."""
    red = tf.constant(np.full((2, 2, 3), [200, 40, 40], np.uint8))
    found = np.array(mapped(lambda seed: preprocessing.distort_color(red, seed, shuffled=True), 400))[:, 0, 0].astype(
        int
    )
    assert abs((found.argmax(1) != 0).mean() - 1 / 3) < 0.09
    ordered = np.sort(found, axis=1)
    hues = 60 * (ordered[:, 1] - ordered[:, 0]) / np.maximum(ordered[:, 2] - ordered[:, 0], 1)  # degrees from a primary
    assert abs((hues < 1).mean() - 0.5) < 0.1 and 15 < hues.max() < 19.5
    saturation = 1 - ordered[:, 0] / np.maximum(ordered[:, 2], 1)
    assert saturation.min() < 0.5 and saturation.max() > 0.95  # of 0.8


def test_colours_are_distorted_if_asked_for():
    """Boxes stay where they are, and so does the order of the channels."""
    plain = views(options('none', random_flip=False), 1)[0]
    drawn = views(options('none', random_flip=False, color_distortion='photometric'), 60)
    same = sum(np.array_equal(image, plain[0]) for image, *_ in drawn)
    assert same < 12  # one of sixteen
    for image, boxes, _ in drawn:
        np.testing.assert_array_equal(boxes, plain[1])
        assert image[30, 30].argmax() == 0 and image[80, 40].argmax() == 1


@pytest.mark.parametrize('augmentation', DETECTION_AUGMENTATIONS)
def test_images_without_a_box(augmentation):
    """They are drawn as any other, or taken as a whole, and padded; nothing is infinite."""
    example_format = DetectionFormat(options(augmentation, (64, 64)), 3)
    target = {'boxes': tf.zeros([0, 4]), 'labels': tf.zeros([0], tf.int32), 'size': tf.constant(SIZE)}
    encoded = tf.constant(painted())
    for fields in mapped(lambda seed: example_format.train(encoded, target, seed), 10):
        assert not fields['valid'].any() and fields['image'].shape == (64, 64, 3)
        np.testing.assert_array_equal(fields['boxes'], [[0, 0, 1, 1]] * 3)
        assert not fields['labels'].any()


def test_more_boxes_than_there_is_room_for_fail():
    example_format = DetectionFormat(options('none'), 3)
    target = {'boxes': tf.constant(parts(BOXES)), 'labels': tf.range(4)}
    with pytest.raises(tf.errors.InvalidArgumentError, match='it has'):
        example_format.train(tf.constant(painted()), target, example_seed(0, 0, 0))


@pytest.mark.parametrize('image_size', [(64, 64), (200, 90), (300, 300)])
def test_resizes_are_those_of_tensorflow_1_and_2(image_size):
    image = np.asarray(photo(0, size=SIZE[::-1]))
    for resize, expected in (
        ('half_pixel', tf.image.resize(image, image_size, antialias=False)),
        ('legacy', tf.compat.v1.image.resize_bilinear(image[np.newaxis], image_size)[0]),
    ):
        found = preprocessing.resize(tf.constant(image), options('none', image_size, resize=resize)).numpy()
        assert np.abs(found - expected.numpy()).max() <= 0.501


def test_the_same_seed_draws_the_same():
    for augmentation in DETECTION_AUGMENTATIONS:
        first, again = views(options(augmentation), 6), views(options(augmentation), 6)
        for one, other in zip(first, again, strict=True):
            for part, same in zip(one, other, strict=True):
                np.testing.assert_array_equal(part, same)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'augmentation': 'ssd'}, "data.augmentation='ssd' is unknown. Known: mobilenext, none, tf, torchvision."),
        ({'augmentation': 'tf', 'resize': 'tf'}, "data.resize='tf' is unknown. Known: half_pixel, legacy."),
        (
            {'augmentation': 'tf', 'color_distortion': 'fast'},
            "data.color_distortion='fast' is unknown. Known: mobilenext, none, photometric.",
        ),
        (
            {'augmentation': 'tf', 'image_size': (0, 3)},
            'image_size=(0, 3) must be a positive number of pixels, or a pair of them (height, width).',
        ),
    ],
)
def test_wrong_values(fields, message):
    with pytest.raises(ValueError) as error:
        options(**fields)
    assert str(error.value) == message
