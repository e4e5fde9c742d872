"""Codes of boxes against the formula in float64, and back."""

import math

import jax
import numpy as np
import pytest

from mobilenets_jax.boxes.coder import TORCHVISION_MAX_LOG_SIZE, BoxCoder
from mobilenets_jax.errors import UserError

ANCHORS = 5000


def random_case(seed=0):
    generator = np.random.default_rng(seed)
    low = generator.uniform(0, 0.7, (ANCHORS, 2))
    boxes = np.concatenate([low, low + generator.uniform(0.003, 0.3, (ANCHORS, 2))], axis=-1).astype(np.float32)
    anchors = generator.uniform(0.05, 1, (ANCHORS, 4)).astype(np.float32)
    return boxes, anchors


@pytest.mark.parametrize('scales', [(10.0, 10.0, 5.0, 5.0), (1.0, 2.0, 3.0, 4.0)])
def test_codes_are_those_of_the_formula(scales):
    boxes, anchors = random_case()
    (top, left, bottom, right), (y, x, height, width) = boxes.T.astype(np.float64), anchors.T.astype(np.float64)
    expected = [
        ((top + bottom) / 2 - y) / height * scales[0],
        ((left + right) / 2 - x) / width * scales[1],
        np.log((bottom - top) / height) * scales[2],
        np.log((right - left) / width) * scales[3],
    ]
    np.testing.assert_allclose(BoxCoder(scales).encode(boxes, anchors), np.stack(expected, -1), rtol=1e-4, atol=1e-4)


def test_decoding_undoes_encoding():
    boxes, anchors = random_case(1)
    for coder in (BoxCoder(), BoxCoder((1.0, 2.0, 3.0, 4.0), max_log_size=TORCHVISION_MAX_LOG_SIZE)):
        np.testing.assert_allclose(coder.decode(coder.encode(boxes, anchors), anchors), boxes, atol=2e-6)


def test_codes_of_batches():
    boxes, anchors = random_case(2)
    batch = np.stack([boxes, boxes[::-1]])
    for function in (BoxCoder().encode, BoxCoder().decode):
        np.testing.assert_allclose(function(batch, anchors)[1], function(batch[1], anchors), rtol=1e-4, atol=1e-4)


def test_sides_are_cut_in_torchvision_alone():
    codes, anchors = np.float32([[0, 0, 50, 5]]), np.float32([[0.5, 0.5, 0.1, 0.1]])
    unlimited = BoxCoder().decode(codes, anchors)[0]
    cut = BoxCoder(max_log_size=TORCHVISION_MAX_LOG_SIZE).decode(codes, anchors)[0]
    assert unlimited[2] - unlimited[0] == pytest.approx(0.1 * math.exp(10), rel=1e-5)
    assert cut[2] - cut[0] == pytest.approx(0.1 * 1000 / 16, rel=1e-5)
    assert cut[3] - cut[1] == pytest.approx(0.1 * math.e, rel=1e-5)


def test_a_box_without_area_has_finite_codes():
    codes = jax.jit(BoxCoder().encode)(np.float32([[0.5, 0.5, 0.5, 0.5]]), np.float32([[0.5, 0.5, 1, 1]]))
    np.testing.assert_allclose(codes, [[0, 0, 5 * math.log(1e-8), 5 * math.log(1e-8)]], rtol=1e-5)


def test_wrong_scales_are_refused():
    with pytest.raises(UserError, match=r'scales=\(10.0, 0.0, 5.0, 5.0\) must be four positive numbers'):
        BoxCoder((10.0, 0.0, 5.0, 5.0))
