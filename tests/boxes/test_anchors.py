"""The anchors of each convention: published counts, a published file, and values worked out by hand."""

import os
import pathlib

import numpy as np
import pytest

from mobilenets_jax.boxes.anchors import (
    AnchorSpec,
    make_anchors,
    mobilenext_anchors,
    tf_anchors,
    torchvision_anchors,
)
from mobilenets_jax.errors import UserError

SHARED = pathlib.Path(os.environ.get('MOBILENETS_JAX_SHARED', '../shared')).resolve()
GOLDEN = SHARED / 'weights' / 'ssd_anchors_300_1917_float32_ycxchw.npy'
MAPS = {300: (19, 10, 5, 3, 2, 1), 320: (20, 10, 5, 3, 2, 1), 192: (12, 6, 3, 2, 1, 1)}


def anchors_of(spec, size):
    return make_anchors(spec, [(side, side) for side in MAPS[size]], (size, size))


@pytest.mark.parametrize(
    ('spec', 'size', 'count'),
    [
        (tf_anchors(), 300, 1917),
        (tf_anchors(), 320, 2034),
        (tf_anchors(), 192, 738),
        (tf_anchors(reduced_first_map=False), 320, 3234),
        (torchvision_anchors(), 320, 3234),
        (mobilenext_anchors('coco'), 320, 3232),
        (mobilenext_anchors('voc'), 320, 3234),
    ],
)
def test_published_counts(spec, size, count):
    anchors = anchors_of(spec, size)
    assert anchors.shape == (count, 4) and anchors.dtype == np.float32
    assert count == sum(spec.per_location(index) * side**2 for index, side in enumerate(MAPS[size]))


@pytest.mark.skipif(not GOLDEN.exists(), reason=f'{GOLDEN} is not there')
def test_tf_anchors_are_those_of_a_released_network():
    np.testing.assert_allclose(anchors_of(tf_anchors(), 300), np.load(GOLDEN), rtol=0, atol=1e-6)


def test_tf_anchors_of_a_location_by_hand():
    anchors = anchors_of(tf_anchors(), 320)
    root = 2**0.5
    np.testing.assert_allclose(
        anchors[3 * 21 : 3 * 22],  # second row, second column of the first map
        [[0.075, 0.075, *size] for size in ((0.1, 0.1), (0.2 / root, 0.2 * root), (0.2 * root, 0.2 / root))],
        rtol=1e-6,
    )
    # The only location of the last map: scale .95, the ratios 1, 2, 1/2, 3 and 1/3, and one between it and 1.
    s, third = 0.95, 3**0.5
    sides = [(s, s), (s / root, s * root), (s * root, s / root), (s / third, s * third), (s * third, s / third)]
    np.testing.assert_allclose(anchors[-6:], [[0.5, 0.5, *size] for size in (*sides, (s**0.5, s**0.5))], rtol=1e-4)


def test_torchvision_anchors_of_a_location_by_hand():
    anchors = anchors_of(torchvision_anchors(), 320)
    s, between, root, third = 0.95, 0.95**0.5, 2**0.5, 3**0.5
    sizes = [(s, s), (between, between), (s / root, 1), (1, s / root), (s / third, 1), (1, s / third)]
    np.testing.assert_allclose(anchors[-6:], [[0.5, 0.5, *size] for size in sizes], rtol=1e-6)
    assert anchors[:, 2:].max() == 1  # but the centres stay, so that anchors reach out of the image


def test_mobilenext_anchors_of_a_location_by_hand():
    coco, voc = (anchors_of(mobilenext_anchors(protocol), 320) for protocol in ('coco', 'voc'))
    between, root = (45 * 90) ** 0.5, 2**0.5
    np.testing.assert_allclose(
        coco[:4] * 320,
        [[8, 8, *size] for size in ((45, 45), (between, between), (45 / root, 45 * root), (45 * root, 45 / root))],
        rtol=1e-6,
    )
    np.testing.assert_allclose(voc[1] * 320, [8, 8, (45 * 120) ** 0.5, (45 * 120) ** 0.5], rtol=1e-6)
    # The map of 3 x 3 has a stride of 120 pixels, not of 320 / 3; the last one has four anchors.
    third_map = 6 * (400 + 100 + 25)
    np.testing.assert_allclose(coco[third_map : third_map + 54 : 6, 1] * 320, [60, 180, 300] * 3, rtol=1e-6)
    np.testing.assert_allclose(coco[-4:, 2] * 320, [270, (270 * 315) ** 0.5, 270 / root, 320], rtol=1e-6)


def test_order_is_map_row_column():
    maps = [(2, 3), (1, 1)]
    spec = AnchorSpec(sizes=(((0.1, 0.2),), ((0.3, 0.4), (0.5, 0.6))))
    np.testing.assert_allclose(
        make_anchors(spec, maps, (100, 300)),
        [
            *([y, x, 0.1, 0.2] for y in (0.25, 0.75) for x in (1 / 6, 3 / 6, 5 / 6)),
            [0.5, 0.5, 0.3, 0.4],
            [0.5, 0.5, 0.5, 0.6],
        ],
        rtol=1e-6,
    )


def test_of_images_that_are_not_square_tf_anchors_are_square_in_pixels_and_torchvision_s_in_fractions():
    maps = [(10, 20), (5, 10)]
    tf, torchvision = (make_anchors(make(num_maps=2), maps, (160, 320)) for make in (tf_anchors, torchvision_anchors))
    np.testing.assert_allclose(tf[0], [0.05, 0.025, 0.1, 0.05], rtol=1e-6)  # 16 x 16 pixels
    np.testing.assert_allclose(torchvision[0], [0.05, 0.025, 0.2, 0.2], rtol=1e-6)


def test_wrong_fields_are_named():
    with pytest.raises(UserError, match="protocol='imagenet' is unknown. Known: coco, voc"):
        mobilenext_anchors('imagenet')
    with pytest.raises(UserError, match='num_maps=1 must be at least 2'):
        tf_anchors(num_maps=1)
    with pytest.raises(UserError, match=r'map_sizes=\[\(5, 5\)\] must be of 6 maps'):
        make_anchors(tf_anchors(), [(5, 5)], (300, 300))
    with pytest.raises(UserError, match=r'strides=\(16,\) must have a positive number for each of the 2 maps'):
        AnchorSpec(sizes=(((0.1, 0.1),),) * 2, strides=(16,))
