"""Parameters and multiply-adds of the detectors: exact, and as papers and torchvision print them."""

import pytest

from mobilenets_jax.heads import create_detector
from mobilenets_jax.heads.published import PUBLISHED_DETECTORS
from mobilenets_jax.report.counts import count_module

# In the order of the table: parameters with batch norm and without, multiply-adds.
COUNTS = (
    (5_100_661, 5_063_413, 1_309_162_944),
    (4_337_013, 4_286_261, 788_830_144),
    (4_912_181, 4_861_669, 837_819_232),
    (5_006_735, 4_966_591, 613_143_104),
    (3_248_255, 3_215_311, 506_563_904),
    (947_709, 929_531, 166_713_786),
    (1_562_111, 1_536_527, 272_348_896),
    (1_032_335, 1_014_029, 177_387_738),
    (1_690_173, 1_664_541, 290_408_224),
    (2_518_271, 2_493_487, 210_417_856),
    (1_785_743, 1_765_279, 162_303_424),
    (3_440_060, 3_407_116, 583_171_904),
    (4_533_658, 4_460_922, 843_580_928),
    (3_464_098, 3_391_362, 708_720_128),
)


@pytest.mark.parametrize(('published', 'expected'), zip(PUBLISHED_DETECTORS, COUNTS, strict=True))
def test_counts(published, expected):
    counts = count_module(create_detector(**published.arguments), published.image_size)
    assert (counts.params, counts.params - counts.norm_params, counts.madds) == expected


@pytest.mark.parametrize(('published', 'counts'), zip(PUBLISHED_DETECTORS[:11], COUNTS, strict=False))
def test_table_6_prints_parameters_without_batch_norm(published, counts):
    """Those of V1 and V2 1.0 are rounded by 1801.04381; of the others only MnasNet's differ in the last digit."""
    _, params, madds = counts
    tolerance = 0.012 * published.params if published.model == 'mnasnet_a1' else 0.0051
    if published.num_classes == 80:  # printed with one digit, by 1801.04381
        tolerance = 0.05
    assert params / 1e6 == pytest.approx(published.params, abs=tolerance)
    assert madds / 1e9 == pytest.approx(published.madds, abs=0.012)


def test_the_light_form_and_the_plain_one():
    """TensorFlow's SSD on V1 0.75 predicts by 1x1 convolutions from maps that 3x3 ones make: 273 = 3 * 91 logits."""
    light, plain = (create_detector('mobilenet_v1', 90, head, 0.75) for head in ('tf', 'ssd'))
    counts = count_module(plain, 300)
    assert (counts.params, counts.madds, len(plain.anchors((300, 300)))) == (4_110_735, 728_036_496, 1917)
    assert count_module(light, 300).params < counts.params
