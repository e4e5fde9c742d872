"""The table of published weights: complete, consistent, and only what its sources print."""

import re
import urllib.parse

import pytest

from mobilenets_jax.data.options import EVAL_CROPS, INTERPOLATIONS, NORMALIZATIONS
from mobilenets_jax.models import get_architecture, get_spec
from mobilenets_jax.weights import CARDS
from mobilenets_jax.weights.imagenet import class_names
from mobilenets_jax.weights.names import SOURCES


@pytest.mark.parametrize('name', CARDS)
def test_every_card_is_complete(name):
    card = CARDS[name]
    source = name.partition(':')[0]
    assert card.name == name and card.model in SOURCES[source].maps
    assert card.convention in get_architecture(card.model).conventions
    assert get_spec(card.model, card.width_multiplier, card.convention).blocks
    url = urllib.parse.urlparse(card.url)
    assert url.scheme == 'https' and card.file_name
    assert card.digest is None or re.fullmatch('sha256:[0-9a-f]{8,64}|md5:[0-9a-f]{32}', card.digest)
    preprocessing = card.preprocessing
    crops = {'classification': EVAL_CROPS, 'segmentation': ('padded', 'short_side'), 'detection': ('stretched',)}
    assert preprocessing.crop in crops[card.task] and preprocessing.interpolation in INTERPOLATIONS
    assert preprocessing.normalization in NORMALIZATIONS and 0 < preprocessing.crop_fraction <= 1
    assert card.top1 is None or 35 < card.top1 < 85
    assert card.top5 is None or card.top1 < card.top5 < 97
    assert card.miou is None or (card.task == 'segmentation' and 50 < card.miou < 75)
    assert card.ap is None or (card.task == 'detection' and 10 < card.ap < 30)
    assert card.licence


def test_segmentation_cards():
    found = {
        name: (card.miou, card.preprocessing.image_size) for name, card in CARDS.items() if card.task == 'segmentation'
    }
    assert found == {
        'tflite:deeplabv3_257_mv_gpu': (None, 257),
        'tflite:deeplabv3_mnv2_dm05_pascal_quant': (69.65, 513),
        'torchvision:lraspp_mobilenet_v3_large.COCO_WITH_VOC_LABELS_V1': (57.9, 520),
        'torchvision:deeplabv3_mobilenet_v3_large.COCO_WITH_VOC_LABELS_V1': (60.3, 520),
    }
    assert {len(CARDS[name].class_names) for name in found} == {21}


def test_detection_cards():
    """Networks of COCO have a column for each of its numbers, of which ten are not used."""
    cards = {name: card for name, card in CARDS.items() if card.task == 'detection'}
    found = {
        name: (card.ap, card.preprocessing.image_size, card.preprocessing.resize, len(card.class_names))
        for name, card in cards.items()
    }
    assert found == {
        'tflite:ssdlite_mobilenet_v2_voc_300': (None, 300, 'legacy', 20),
        'tflite:coco_ssd_mobilenet_v1_0.75_300': (None, 300, 'legacy', 90),
        'torchvision:ssdlite320_mobilenet_v3_large.COCO_V1': (21.3, 320, 'half_pixel', 90),
    }
    names = cards['torchvision:ssdlite320_mobilenet_v3_large.COCO_V1'].class_names
    assert (names[0], names[16], names[89]) == ('person', 'cat', 'toothbrush')
    unused = [int(name.removeprefix('unused ')) for name in names if name.startswith('unused ')]
    assert unused == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]


def test_files_are_distinguished_by_their_names():
    """A local file finds its card by the name it was published under."""
    found = {}
    for card in CARDS.values():
        found.setdefault((card.file_name, card.member), []).append(card.name)
    assert all(len(names) == 1 for names in found.values())


@pytest.mark.parametrize(
    ('name', 'bn_epsilon', 'resized', 'normalization', 'top1'),
    [
        ('torchvision:mobilenet_v3_large.IMAGENET1K_V2', 1e-3, 232, 'imagenet', 75.274),
        ('torchvision:mobilenet_v2.IMAGENET1K_V1', 1e-5, 256, 'imagenet', 71.878),
        ('timm:mobilenetv3_large_100.ra4_e3600_r224_in1k', 1e-5, 235, 'symmetric', 76.31),
        ('timm:tf_mobilenetv3_large_100.in1k', 1e-3, 256, 'symmetric', 75.51),
        ('keras:mobilenet_v3_small_1.0_224', 1e-3, 256, 'symmetric', 68.1),
        ('slim:mobilenet_v2_0.35_96', 1e-3, 110, 'symmetric', 45.5),
    ],
)
def test_some_cards_in_full(name, bn_epsilon, resized, normalization, top1):
    card = CARDS[name]
    preprocessing = card.preprocessing
    assert card.bn_epsilon == bn_epsilon and card.top1 == top1 and preprocessing.normalization == normalization
    assert round(preprocessing.image_size / preprocessing.crop_fraction) == resized


def test_class_names():
    names = class_names(1000)
    assert len(set(names)) == 1000
    assert [names[i] for i in (0, 1, 134, 517, 999)] == ['tench', 'goldfish', 'crane bird', 'crane', 'toilet tissue']
    assert class_names(3) == ['class 0', 'class 1', 'class 2']
