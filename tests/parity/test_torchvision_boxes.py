"""torchvision's own RandomIoUCrop, and what follows it, on the draws that ours makes."""

import importlib

import numpy as np
import pytest
import tensorflow as tf

from mobilenets_jax.data import detection_preprocessing as preprocessing
from mobilenets_jax.data.detection_options import DetectionOptions
from mobilenets_jax.data.preprocessing import example_seed

SIZES = [(120, 160), (333, 250), (64, 64)]


class Draws:
    """Gives torchvision, in its order, the numbers that `iou_crop` draws for a seed."""

    def __init__(self, torch, seed):
        self.torch, self.seed, self.round = torch, seed, -1

    def randint(self, low, high, size):
        """The option of the next round."""
        self.round += 1
        number = tf.random.experimental.stateless_fold_in(self.seed, self.round)
        option_seed, crop_seed = tf.unstack(tf.random.experimental.stateless_split(number, 2))
        self.crops = tf.random.stateless_uniform([40, 4], crop_seed).numpy()
        option = tf.random.stateless_uniform([], option_seed, low, high, tf.int32)
        return self.torch.tensor([int(option)])

    def range(self, attempts):
        """The attempts; each draws sides and then a place."""
        for number in range(attempts):
            self.left = [self.crops[number, 2:], self.crops[number, :2]]
            yield number

    def rand(self, count):
        return self.torch.tensor(self.left.pop()[:count])


@pytest.fixture
def geometry(torchvision):
    return importlib.import_module('torchvision.transforms.v2._geometry')


@pytest.mark.parametrize('size', SIZES)
def test_crop_by_iou(torch, torchvision, geometry, size, monkeypatch):
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    crop = v2.RandomIoUCrop()
    assert tuple(crop.options) == preprocessing.TORCHVISION.options
    assert crop.trials == preprocessing.TORCHVISION.attempts
    generator = np.random.default_rng(0)
    cropped = 0
    for index in range(60):
        count = generator.integers(1, 5)
        begin = generator.uniform(0, 0.7, (count, 2))
        boxes = np.concatenate([begin, begin + generator.uniform(0.05, 0.3, (count, 2))], 1).astype(np.float32)
        pixels = boxes * np.tile(size, 2).astype(np.float32)
        seed = preprocessing.purpose_seed(example_seed(0, 0, index), 'crop')
        draws = Draws(torch, seed)
        with monkeypatch.context() as patch:
            patch.setattr(geometry, 'range', draws.range, raising=False)
            patch.setattr(torch, 'randint', draws.randint)
            patch.setattr(torch, 'rand', draws.rand)
            target = {
                'boxes': tv_tensors.BoundingBoxes(pixels[:, [1, 0, 3, 2]], format='XYXY', canvas_size=size),
                'labels': torch.arange(count),
            }
            image = tv_tensors.Image(torch.zeros(3, *size, dtype=torch.uint8))
            image, target = v2.SanitizeBoundingBoxes()(*crop(image, target))
        window, stays = preprocessing.iou_crop(tf.constant(size), tf.constant(pixels), seed, preprocessing.TORCHVISION)
        found, labels = preprocessing.cut(
            tf.constant(boxes[stays]), tf.constant(np.arange(count)[stays]), tf.constant(size), window
        )
        assert tuple(image.shape[1:]) == tuple(window.numpy()[2:])
        expected = np.asarray(target['boxes'])[:, [1, 0, 3, 2]] / np.tile(window.numpy()[2:], 2)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_array_equal(labels, target['labels'])
        cropped += tuple(window.numpy()[2:]) != size
    assert 20 < cropped < 55


@pytest.mark.parametrize('image_size', [(320, 320), (90, 50)])
def test_resize_is_that_of_the_detector(torch, image_size):
    """`GeneralizedRCNNTransform` resizes by `interpolate` without antialiasing."""
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    pixels = torch.tensor(image).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(pixels, size=image_size, mode='bilinear', align_corners=False)
    found = preprocessing.resize(tf.constant(image), DetectionOptions(image_size, 8, 0)).numpy()
    assert np.abs(found - expected[0].permute(1, 2, 0).numpy()).max() <= 0.51
